"""Flat-minima learning in the agents: against a loop over tasks, as plain aggregation at radius 0, and its limits."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtrl.agents import MTPPO, MTSAC, Agent, AgentError
from mtrl.agents.aggregators import Inputs, parse_aggregator
from mtrl.agents.files import read_state, write_state
from mtrl.agents.networks.grid import MINIGRID
from mtrl.agents.networks.memory import Recall
from mtrl.agents.networks.network import Network
from mtrl.agents.networks.parameters import Params
from mtrl.agents.optim.task_gradients import Reduction
from mtrl.agents.state import split_state
from tests.agents.ppo.test_agent import DiscreteEnv
from tests.helpers import fakes
from tests.helpers.networks import grid, mlp

TASKS, SEEDS, ROWS, WIDTH = 3, 2, 6, 8
CPU = torch.device("cpu")


def _network(kind: str, heads: int) -> Network:
    if kind in ("grid", "gru"):
        return grid(WIDTH, 1, 2, heads, memory=kind == "gru")
    return mlp(4, WIDTH, 2, 2, heads, kind)  # type: ignore[arg-type]


def _batch(kind: str, generator: torch.Generator) -> tuple[Tensor, Recall | None]:
    if kind not in ("grid", "gru"):
        return torch.randn(SEEDS, TASKS, ROWS, 4, generator=generator), None
    draw = torch.rand(SEEDS, TASKS, ROWS, MINIGRID.num_bytes, generator=generator)
    x = (draw * torch.tensor(MINIGRID.sizes())).to(torch.uint8)
    if kind == "grid":
        return x, None
    start = torch.rand(SEEDS, TASKS, ROWS, generator=generator) < 0.3
    return x, Recall(torch.randn(SEEDS, TASKS, 2, WIDTH, generator=generator), start)


@pytest.mark.parametrize("heads", [1, TASKS])
@pytest.mark.parametrize(
    ("kind", "twins"),
    [("relu", 1), ("relu", 2), ("tanh", 1), ("layer_norm", 2), ("grid", 2), ("gru", 1)],
)
@pytest.mark.parametrize("aggregator", ["mean:flat_minima=0.5", "upgrad:flat_minima=0.5"])
def test_the_gradient_is_that_of_a_loop_over_tasks(
    kind: str, twins: int, heads: int, aggregator: str
) -> None:
    generator = torch.Generator().manual_seed(3)
    network, method = _network(kind, heads), parse_aggregator(aggregator)
    reduction = Reduction(network, method, TASKS, twins)
    flat = network.init(SEEDS * twins, generator)
    x, recall = _batch(kind, generator)
    factors = torch.tensor([[1.0, 0.5, 2.0]]).expand(SEEDS, -1)

    def losses(views: Params) -> Tensor:
        out = network.forward(views, x, recall).square().mean((-2, -1))
        return out.view(SEEDS, twins, TASKS).sum(1)

    leaves = reduction.leaves(flat, torch.float32)
    state = reduction.init(SEEDS, CPU)
    actual, _, about = reduction.gradient(
        losses(leaves), leaves, state, None, weights=factors, again=losses
    )

    def row(at: Tensor, task: int) -> tuple[Tensor, Tensor]:
        leaf = at.clone().requires_grad_()
        loss = losses(network.views(leaf, torch.float32))[:, task]
        (grad,) = torch.autograd.grad((loss * factors[:, task]).sum(), leaf)
        return grad.view(SEEDS, twins, -1), loss.detach()

    shared = reduction.num_shared // twins
    rows, moved, rises = [], [], []
    for task in range(TASKS):
        grad, loss = row(flat, task)
        step = torch.zeros_like(grad)
        norm = grad[..., :shared].norm(dim=(1, 2), keepdim=True)
        step[..., :shared] = 0.5 * grad[..., :shared] / norm
        there, loss_there = row(flat + step.view_as(flat), task)
        rows.append(grad)
        moved.append(there)
        rises.append(loss_there - loss)
    jacobian, perturbed = (
        torch.stack(parts, 1)[..., :shared].flatten(2) for parts in (rows, moved)
    )
    base = parse_aggregator(aggregator.partition(":")[0])
    parts = [
        base.direction(Inputs(jacobian=j), {})[0].direction
        for j in (jacobian, perturbed - jacobian)
    ]
    expected = sum(parts).view(SEEDS * twins, shared)
    torch.testing.assert_close(
        actual[:, :shared], expected, rtol=1e-3, atol=2e-5 * float(expected.abs().max())
    )
    own = torch.stack(rows, 1)[..., shared:].mean(1).flatten(0, 1)
    torch.testing.assert_close(actual[:, shared:], own, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(about["sharpness"], torch.stack(rises, 1), rtol=1e-3, atol=1e-5)
    assert (perturbed - jacobian).norm() > 0.05 * jacobian.norm()


SETTINGS: dict[type[Agent], dict[str, Any]] = {
    MTPPO: {"width": 16, "rollout_per_task": 40, "epochs": 2, "minibatches": 2},
    MTSAC: {"width": 16, "learning_starts": 8, "batch_per_task": 8, "buffer_per_task": 64},
}
DISCRETE = {"discrete": True}
CASES = [
    (MTPPO, {}),
    (MTPPO, {"heads": "one-hot"}),
    (MTPPO, DISCRETE),
    (MTPPO, {"curriculum": "success-focal", "aggregator": "dwa", "actor_aggregator": "cagrad"}),
    (MTSAC, {}),
    (MTSAC, {"heads": "one-hot"}),
    (MTSAC, DISCRETE),
    (MTSAC, {"curriculum": "success-focal"}),
]


def _agent(kind: type[Agent], discrete: bool = False, **settings: Any) -> Any:
    env = (
        DiscreteEnv()
        if discrete
        else fakes.FakeEnv(fakes.get_suite("mt10:fake"), 2, 1, "random", 0, 0.0)
    )
    return kind(env, seed=1, device="cpu", **SETTINGS[kind] | settings)


@pytest.mark.parametrize(("kind", "settings"), CASES)
def test_at_radius_zero_the_update_is_the_plain_one(
    kind: type[Agent], settings: dict[str, Any]
) -> None:
    names = {"aggregator": "upgrad"} | {
        key: value for key, value in settings.items() if key.endswith("aggregator")
    }
    tiny = {key: f"{value}:flat_minima=1e-12" for key, value in names.items()}
    plain = _agent(kind, **settings | names | {"precision": "fp32"})
    flat = _agent(kind, **settings | tiny)
    for agent in (plain, flat):
        while agent.gradient_steps == 0:
            agent.advance()
    for network in ("actor", "critic"):
        moments = [agent.state[network]["exp_avg"] for agent in (plain, flat)]
        if kind is MTSAC:  # one step: the moments are those of one gradient
            torch.testing.assert_close(moments[1], moments[0], rtol=1e-3, atol=1e-5)
        assert torch.cosine_similarity(*(moment.flatten() for moment in moments), dim=0) > 0.999
    assert {
        f"{network}_sharpness" for network in ("actor", "critic")
    } <= flat._meter._sums.keys()


@pytest.mark.parametrize(("kind", "settings"), [(MTPPO, {}), (MTSAC, DISCRETE)])
def test_a_restored_agent_continues_bit_for_bit(
    kind: type[Agent], settings: dict[str, Any], tmp_path: Path
) -> None:
    settings = settings | {"aggregator": "gradvac:flat_minima=0.1"}
    agent, other = _agent(kind, **settings), _agent(kind, **settings)
    for _ in range(3 if kind is MTPPO else 12):
        agent.advance()
    write_state(tmp_path / "state", agent.state_dict())
    saved, env = read_state(tmp_path / "state"), copy.deepcopy(agent.env.state_dict())
    assert (saved["networks"]["critic_tasks"]["flat.target"] != 0).any()
    other.env.load_state_dict(env)
    other.load_state_dict(saved)
    for each in (agent, other):
        for _ in range(2):
            each.advance()
    (tensors, values), (others, other_values) = (
        split_state(each.state_dict()) for each in (agent, other)
    )
    assert values == other_values
    assert [
        name for name in tensors | others if not torch.equal(tensors[name], others[name])
    ] == []


@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"precision": "bf16"},
            "precision: 'bf16' rounds away the steps of aggregator 'flat-minima.mean.'; use auto",
        ),
        (
            {"heads": "separate"},
            "'flat-minima.mean.' has no shared gradient to act on with heads=separate",
        ),
        ({"critic_aggregator": "sdmgrad:flat_minima=0.1"}, "flat-minima cannot wrap 'sdmgrad'"),
        ({"actor_aggregator": "mean:flat_minima=-1"}, "rho=-1.0 is not allowed"),
    ],
)
def test_what_it_cannot_do_is_said_at_start(
    kind: type[Agent], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(AgentError, match=message):
        _agent(kind, **{"aggregator": "mean:flat_minima=0.05"} | settings)


@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
def test_updates_are_computed_in_float32_whatever_the_machine(kind: type[Agent]) -> None:
    """In bfloat16 a parameter of 0.05 moves by steps of 2e-4, larger than those to be looked at."""
    assert (
        _agent(kind, critic_aggregator="mean:flat_minima=0.05").settings.dtype == torch.float32
    )
