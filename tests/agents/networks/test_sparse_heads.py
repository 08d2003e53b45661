"""Sparse heads: the proximal step against values worked by hand, and which features tasks end up reading."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mtrl.agents import MTPPO, MTSAC, Agent
from mtrl.agents.networks.bodies.body import Step, Stepped
from mtrl.agents.networks.bodies.sparse_heads import SparseHeads
from mtrl.agents.networks.encoder import Identity
from tests.agents.networks.test_mixtures import SIZE, TASKS, draw, rows
from tests.agents.test_networks import _advance, _agent
from tests.helpers.networks import network


def test_the_proximal_step_takes_its_share_off_each_groups_norm() -> None:
    # Columns (3, 4) of norm 5 and (0.3, 0.4) of norm 0.5; a column of zeros stays.
    weight = torch.tensor([[3.0, 0.3, 0.0], [4.0, 0.4, 0.0]]).view(1, 1, 2, 3)
    out = SparseHeads(shrink=1.0).heads_after_step(weight, Stepped(SIZE))
    wanted = torch.tensor([[2.4, 0.0, 0.0], [3.2, 0.0, 0.0]]).view(1, 1, 2, 3)
    torch.testing.assert_close(out, wanted)


def test_features_have_a_fixed_scale() -> None:
    body = SparseHeads()
    p = draw(body)
    features = body.features(p, rows(), Step(SIZE))
    p["1.weight"].data *= 10
    p["1.bias"].data *= 10
    # LayerNorm adds a little to the variance, which small ones show.
    scaled = body.features(p, rows(), Step(SIZE))
    torch.testing.assert_close(scaled, features, rtol=0, atol=0.02)


def test_only_the_seeds_that_took_the_step_are_corrected() -> None:
    made = network(Identity(4), 8, 2, 2, TASKS, body=SparseHeads(shrink=0.1))
    flat = made.init(2, torch.Generator().manual_seed(0))
    before = flat.clone()
    made.after_step(flat, None, None, members=[1])
    assert torch.equal(flat[0], before[0]) and not torch.equal(flat[1], before[1])
    changed = (flat != before)[1]
    assert changed[made.layout.places["head.weight"]].all()
    assert changed.sum() == changed[made.layout.places["head.weight"]].sum()


def _read_after_training(shrink: float) -> torch.Tensor:
    """Which inputs each task's head reads, of five, where only input t has to do with task t."""
    made = network(
        Identity(5), 5, 1, 1, TASKS, activation="relu", body=SparseHeads(shrink=shrink)
    )
    generator = torch.Generator().manual_seed(0)
    flat = made.init(1, generator)
    # Hidden units repeat the inputs, which are positive, so that features are the inputs on one scale.
    views = made.views(flat, torch.float32).named
    views["body.0.weight"].copy_(torch.eye(5))
    head = made.layout.places["head.weight"]
    x = torch.rand(1, TASKS, 256, 5, generator=generator)
    features = made.features(made.views(flat, torch.float32), x)
    target = torch.stack([features[:, task, :, task] for task in range(TASKS)], 1)
    for _ in range(300):
        leaf = flat.clone().requires_grad_()
        out = made.forward(made.views(leaf, torch.float32), x).squeeze(-1)
        (grad,) = torch.autograd.grad((out - target).square().mean(), leaf)
        flat[:, head] -= 0.3 * grad[:, head]
        made.after_step(flat, None, None)
    return made.views(flat, torch.float32).named["head.weight"][0, :, 0] != 0


def test_heads_come_to_read_what_their_task_needs_and_no_more() -> None:
    assert _read_after_training(0.0).all()
    assert torch.equal(_read_after_training(0.003), torch.eye(TASKS, 5, dtype=torch.bool))


@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
def test_updates_of_both_agents_leave_weights_of_0(kind: type[Agent]) -> None:
    shrink = 0.0005 if kind is MTPPO else 0.05
    agent: Any = _agent(kind, network=f"sparse-heads:shrink={shrink}")
    for _ in range(2):
        _advance(agent)
    for role in ("actor", "critic"):
        made, params = getattr(agent, role), agent.state[role]["params"]
        weights = made.owned(params)["head.weight"]
        assert (weights == 0).any() and (weights != 0).any()
