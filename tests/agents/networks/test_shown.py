"""What networks show of themselves: shapes as declared, values worked by hand, images that agents log."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtrl.agents import MTPPO, MTSAC, Agent
from mtrl.agents.networks.bodies.body import Step
from mtrl.agents.networks.encoder import Identity
from mtrl.agents.networks.layers import Named
from mtrl.agents.networks.network import Network
from mtrl.agents.networks.registry import NETWORKS
from mtrl.agents.networks.shown import MEANINGS, Matrices, as_image, image_names, similarity
from mtrl.envs import make_vec
from tests.agents.test_networks import SHORT
from tests.helpers import fakes
from tests.helpers.networks import network

TASKS, SEEDS, ROWS, WIDTH, DEPTH = 3, 2, 5, 8, 2
NAMES = [*NETWORKS, "bro:embedding=4", "hierarchical:layers=1/2/1", "home:groups=0/1/0"]
NOTHING = {"mlp", "multilora", "simba", "simba-v2", "bro"}
"""Networks without anything to show but their weights."""


def _network(name: str) -> Network:
    return network(Identity(4), WIDTH, DEPTH, 2, TASKS, "tanh", NETWORKS.make(name))


def _drawn(made: Network) -> tuple[Tensor, Tensor]:
    """Parameters away from their start, and rows of each task."""
    generator = torch.Generator().manual_seed(0)
    flat = made.init(SEEDS, generator)
    flat = flat + 0.1 * torch.randn(flat.shape, generator=generator)
    return flat, torch.randn(SEEDS, TASKS, ROWS, 4, generator=generator)


def _body(made: Network, flat: Tensor) -> Named:
    return made.views(flat, torch.float32).of("body")


@pytest.mark.parametrize("name", NAMES)
def test_every_body_shows_what_it_declares(name: str) -> None:
    made = _network(name)
    declared = made.body.shown
    assert bool(declared) != (name in NOTHING)
    assert declared.keys() <= MEANINGS.keys()
    flat, x = _drawn(made)
    found = made.shows(flat, x, 0.3)
    assert found.keys() == declared.keys()
    for key, matrices in found.items():
        shown = declared[key]
        assert len(matrices) == 1 or shown.by_layer
        assert len(image_names(key, len(matrices), shown)) == len(matrices) > 0
        for matrix in matrices:
            members, rows, columns = matrix.shape
            assert members == SEEDS
            assert rows == TASKS or shown.rows not in ("tasks", "heads")
            assert columns == TASKS or shown.columns != "tasks"
            assert not matrix.requires_grad and matrix.isfinite().all()
            assert shown.signed or ((matrix >= 0) & (matrix <= 1 + 1e-6)).all()


@pytest.mark.parametrize("name", NAMES)
def test_what_a_member_shows_does_not_depend_on_others(name: str) -> None:
    made = _network(name)
    flat, x = _drawn(made)
    together = made.shows(flat, x, 0.3)
    alone = made.shows(flat[1:], x[1:], 0.3)
    for key, matrices in together.items():
        for matrix, one in zip(matrices, alone[key], strict=True):
            torch.testing.assert_close(matrix[1:], one, rtol=1e-4, atol=1e-5)


def _shows(name: str, values: dict[str, Any], x: Tensor | None = None) -> Matrices:
    """What the body shows of one member whose parameters are 0 but for ``values``."""
    made = _network(name)
    flat = torch.zeros(1, made.num_parameters)
    for key, value in values.items():
        view = _body(made, flat)[key]
        view.copy_(torch.as_tensor(value, dtype=torch.float32).expand(view.shape))
    rows = torch.zeros(1, TASKS, ROWS, 4) if x is None else x
    return made.shows(flat, rows, 1.0)


def test_gates_are_means_over_the_rows_of_a_task() -> None:
    # Scores of expert 0 are x_0 in task 0, 0 elsewhere: half of the rows use it alone, half use none of it.
    weight = torch.zeros(1, TASKS, 2, 4)
    weight[0, 0, 0, 0] = 1.0
    x = torch.zeros(1, TASKS, 4, 4)
    x[..., 0] = torch.tensor([100.0, -100.0, 100.0, -100.0])
    (gate,) = _shows("mmoe:experts=2", {"gate.weight": weight}, x)["gate"]
    torch.testing.assert_close(gate, torch.full((1, TASKS, 2), 0.5))
    x[..., 0] = torch.tensor([100.0, 100.0, 100.0, -100.0])
    (gate,) = _shows("mmoe:experts=2", {"gate.weight": weight}, x)["gate"]
    wanted = torch.tensor([[[0.75, 0.25], [0.5, 0.5], [0.5, 0.5]]])
    torch.testing.assert_close(gate, wanted)


def test_similarity_is_the_cosine_of_the_tasks_codes() -> None:
    code = torch.tensor([[[3.0, 4.0], [4.0, -3.0], [-6.0, -8.0]]])
    wanted = torch.tensor([[[1.0, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 1.0]]])
    (shown,) = _shows("embedding:code=2", {"code": code})["similarity"]
    torch.testing.assert_close(shown, wanted)
    torch.testing.assert_close(similarity(code), wanted)
    assert not similarity(torch.zeros(1, 2, 3)).any()


def test_vectors_are_compared_by_what_they_change() -> None:
    gain = torch.ones(1, TASKS, WIDTH)
    gain[0, 0, 0], gain[0, 1, 0], gain[0, 2, 1] = 2.0, 0.0, 3.0
    values = {"gain.0": gain, "gain.1": 1.0, "shift.0": 0.0, "shift.1": 0.0}
    (shown,) = _shows("yolor", values)["similarity"]
    wanted = torch.tensor([[[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    torch.testing.assert_close(shown, wanted)


def test_changes_of_weights_are_compared_layer_by_layer() -> None:
    up = torch.zeros(1, TASKS, WIDTH, 1)
    up[0, 0, 0], up[0, 1, 0], up[0, 2, 1] = 1.0, -2.0, 5.0
    values = {"0.up": up, "0.down": 1.0, "1.up": 1.0, "1.down": 1.0}
    first, second = _shows("lora:rank=1", values)["similarity"]
    wanted = torch.tensor([[[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    torch.testing.assert_close(first, wanted)
    torch.testing.assert_close(second, torch.ones(1, TASKS, TASKS))


def test_after_the_search_a_tree_is_shown_as_it_stays() -> None:
    choice = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [0.0, 2.0]]])
    branch = torch.tensor([[[[0.5, 0.0], [0.0, 0.5]]]])
    shown = _shows("ltb:copies=2", {"choice": choice, "1.choice": branch})
    assert shown["choice"][0].tolist() == [[[0, 1], [1, 0], [0, 1]]]
    assert shown["branch"][0].tolist() == [[[1, 0], [0, 1]]]


def test_a_head_that_lost_a_feature_shows_it_black() -> None:
    made = _network("sparse-heads")
    flat = torch.zeros(1, made.num_parameters)
    weight = made.views(flat, torch.float32).of("head")["weight"]
    weight[0, 0, :, 1], weight[0, 1, :, 2] = 3.0, 1.0
    weight[0, 1, 0, 0] = 2**0.5
    (shown,) = made.shows(flat, torch.zeros(1, TASKS, 1, 4), 1.0)["heads"]
    wanted = torch.zeros(1, TASKS, WIDTH)
    wanted[0, 0, 1] = wanted[0, 1, 2] = wanted[0, 1, 0] = 1.0
    torch.testing.assert_close(shown, wanted)


def test_routes_of_soft_modules_are_those_that_its_features_take() -> None:
    made = _network("soft-modules:layers=3,modules=2,units=4,gate=5")
    flat, x = _drawn(made)
    body: Any = made.body
    seen: list[list[Tensor]] = []
    gates = type(body).gates

    def spied(self: Any, *given: Any) -> list[Tensor]:
        seen.append(gates(self, *given))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(body), "gates", spied)
        body.features(_body(made, flat), x, Step(made.size))
    shown = made.shows(flat, x, 0.0)["route"]
    for gate, matrix in zip(seen[0], shown, strict=True):
        torch.testing.assert_close(matrix, gate.mean(2).flatten(2))


def test_images_have_gray_where_a_signed_matrix_is_zero() -> None:
    signed = as_image(torch.tensor([[2.0, 0.0], [-4.0, 4.0]]), signed=True)
    np.testing.assert_allclose(signed, [[0.75, 0.5], [0.0, 1.0]])
    np.testing.assert_allclose(as_image(torch.tensor([[0.2, 1.1]]), False), [[0.2, 1.0]])
    assert (as_image(torch.zeros(2, 2), signed=True) == 0.5).all()


def _agent(kind: type[Agent], name: str, suite: str = "mt10:fake", **settings: Any) -> Any:
    env: Any = make_vec(suite, 2, seed=0) if suite == "mg3" else None
    if env is None:
        env = fakes.FakeEnv(fakes.get_suite(suite), 2, 1, "random", 0, 0.0)
    return kind(env, seed=1, device="cpu", network=name, **SHORT[kind] | settings)


@pytest.mark.parametrize(
    ("suite", "heads"),
    [("mt10:fake", "one-hot"), ("mt10:fake", "separate"), ("mg3", "multi-head")],
)
@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
def test_agents_show_both_networks_once_there_are_observations(
    kind: type[Agent], heads: str, suite: str
) -> None:
    agent = _agent(kind, "mtl-lora", suite, heads=heads, width=8)
    assert not any(key.startswith("network/") for key in agent.images())
    for _ in range(7 if kind is MTSAC else 1):
        agent.advance()
    images = agent.images()
    wanted = {
        f"network/{role}_{name}_{layer}"
        for role in ("actor", "critic")
        for name in (("mixture",) if heads == "separate" else ("mixture", "similarity"))
        for layer in range(agent.config.depth)
    }
    assert wanted == {key for key in images if key.startswith("network/")}
    tasks = agent.spec.num_tasks
    for key, image in images.items():
        if key in wanted:
            assert image.shape == (tasks, 3 if "mixture" in key else tasks)
            assert image.dtype == np.float32 and (image >= 0).all() and (image <= 1).all()


def test_looking_at_images_changes_no_run() -> None:
    one, other = (_agent(MTSAC, "m3vit") for _ in range(2))
    for _ in range(8):
        one.advance()
        other.advance()
        other.images()
    for role in ("actor", "critic"):
        assert torch.equal(one.state[role]["params"], other.state[role]["params"])
