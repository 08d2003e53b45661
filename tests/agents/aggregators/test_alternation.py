"""Alternation of averaging with a gradient method: whose turn it is, and what a free update costs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mtrl.agents import MTPPO, MTSAC, AgentError
from mtrl.agents.aggregators import Hybrid, Inputs, make_aggregator, parse_aggregator
from mtrl.agents.aggregators.fixed import Mean
from mtrl.agents.networks.parameters import Params
from mtrl.agents.optim.task_gradients import Reduction
from mtrl.agents.state import difference
from tests.agents.aggregators.cases import jacobian
from tests.helpers import fakes
from tests.helpers.networks import mlp

TASKS = 3


def turns(text: str, updates: int, share: float = 0.0) -> str:
    """One letter an update: f for a free one."""
    aggregator = parse_aggregator(text)
    rules = [aggregator.at(step, share) for step in range(updates)]
    return "".join("f" if isinstance(rule, Mean) else "s" for rule in rules)


def test_the_free_updates_come_first() -> None:
    assert turns("pcgrad:free=1", 6) == "fsfsfs"
    assert turns("aligned-mtl:free=3", 8) == "fffsfffs"


def test_an_epoch_is_of_as_many_updates_as_its_period() -> None:
    assert turns("pcgrad:free=1,free_period=3", 12) == "fffsssfffsss"


def test_the_number_of_free_updates_follows_training() -> None:
    text = "pcgrad:free=3,free_end=1"
    assert [turns(text, 8, share) for share in (0.0, 0.5, 1.0)] == [
        "fffsfffs",
        "ffsffsff",
        "fsfsfsfs",
    ]
    assert turns("pcgrad:free_end=1", 4, 0.0) == "ssss"
    assert turns("pcgrad:free_end=1", 4, 1.0) == "fsfs"
    assert parse_aggregator(text).info.uses_share
    assert not parse_aggregator("pcgrad:free=3").info.uses_share


def test_the_turn_is_the_methods_own_with_its_state() -> None:
    """After two free updates GradVac's targets are those of its first update."""
    aggregator = parse_aggregator("gradvac:free=2,sparse=4")
    state = aggregator.init(TASKS)
    alone = make_aggregator("gradvac")
    rows = jacobian(0, TASKS, 8, "conflicting")
    noise = torch.rand(aggregator.noise_shape(TASKS), dtype=torch.float64)
    inputs = Inputs(jacobian=rows, noise=noise)
    for step in range(2):
        out, after = aggregator.at(step, 0.0).direction(inputs, state)
        torch.testing.assert_close(out.direction, rows.mean(0))
        assert difference(after, state) is None
    out, after = aggregator.at(2, 0.0).direction(inputs, state)
    expected, expected_state = alone.direction(inputs, alone.init(TASKS))
    assert torch.equal(out.direction, expected.direction)
    assert difference(after, expected_state) is None
    assert difference(after, state) is not None


def test_a_free_update_forms_no_task_gradient() -> None:
    """Its shared parameters have one group of rows, so their gradient is the sum over tasks from the start."""
    network = mlp(in_dim=4, width=8, depth=2, out_dim=2, num_heads=TASKS)
    flat = network.init(1, torch.Generator().manual_seed(0))
    x = torch.randn(1, TASKS, 6, 4, generator=torch.Generator().manual_seed(1))
    whole = Reduction(network, parse_aggregator("pcgrad:free=1"), TASKS)
    state = whole.init(1, flat.device)
    found = []
    for step, groups in ((0, 1), (1, TASKS)):
        reduction = whole.at(step, 0.0)
        leaves = reduction.leaves(flat, torch.float32)
        assert {leaves.named[name].shape[1] for name in network.layout.shared} == {groups}
        losses = network.forward(leaves, x).square().mean((-2, -1))
        noise = torch.full((1, TASKS, TASKS), 0.5)
        grad, state, metrics = reduction.gradient(
            losses, leaves, state, noise, step=step, again=_never
        )
        assert bool(metrics) == (step == 1)
        found.append(grad)
    mean = Reduction(network, Mean(), TASKS)
    leaves = mean.leaves(flat, torch.float32)
    losses = network.forward(leaves, x).square().mean((-2, -1))
    expected, _, _ = mean.gradient(losses, leaves, {}, None, again=_never)
    assert torch.equal(found[0], expected)


def _never(params: Params) -> Tensor:
    raise AssertionError("the losses were computed twice")


def test_a_diagnosed_free_update_keeps_the_state() -> None:
    network = mlp(in_dim=4, width=8, depth=2, out_dim=2, num_heads=TASKS)
    flat = network.init(1, torch.Generator().manual_seed(0))
    x = torch.randn(1, TASKS, 6, 4, generator=torch.Generator().manual_seed(1))
    whole = Reduction(network, parse_aggregator("gradvac:free=1"), TASKS, diagnose=True)
    state = whole.init(1, flat.device)
    state["target"] += 0.25
    reduction = whole.at(0, 0.0)
    leaves = reduction.leaves(flat, torch.float32)
    losses = network.forward(leaves, x).square().mean((-2, -1))
    _, after, metrics = reduction.gradient(losses, leaves, state, None, step=0, again=_never)
    assert difference(after, state) is None
    assert metrics["conflict_rate"].shape == (1,)


SETTINGS: dict[type, dict[str, Any]] = {
    MTPPO: {"width": 8, "rollout_per_task": 40, "epochs": 2, "minibatches": 2},
    MTSAC: {"width": 8, "depth": 2, "learning_starts": 8, "batch_per_task": 8},
}


def _learned(kind: type, aggregator: str, **settings: Any) -> Any:
    env = fakes.FakeEnv(fakes.get_suite("mt10:fake"), 2, 1, "random", 0, 0.0)
    return kind(
        env, seed=1, device="cpu", aggregator=aggregator, **SETTINGS[kind] | settings
    ).learn(480)


@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
def test_an_agent_alternates_from_its_first_update(kind: type) -> None:
    """With more free updates than there are, learning is plain averaging bit for bit."""
    plain = _learned(kind, "mean")
    free = _learned(kind, "aligned-mtl:free=10000")
    assert free.gradient_steps == plain.gradient_steps > 2
    assert difference(free.state, plain.state) is None
    assert difference(_learned(kind, "aligned-mtl:free=1").state, plain.state) is not None


@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
def test_metrics_are_means_over_the_updates_that_have_them(kind: type) -> None:
    """PCGrad's weights of equal tasks are at least 1/T, which an average with free updates counted as 0 is not."""
    metrics = _learned(kind, "pcgrad:free=1").metrics()
    assert metrics["train/actor_task_weight"] >= 1 / TASKS - 1e-6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mean:free=1", "free: 'mean' would alternate with itself"),
        ("pcgrad:free=-1", "free=-1 is not allowed; it must be at least 0"),
        ("pcgrad:free=1,free_end=-1", "free_end=-1 is not allowed; it must be at least 0"),
        ("pcgrad:free=1,free_period=0", "free_period=0 is not allowed; it must be at least 1"),
        ("nash-mtl:free=1,every=2", "holds its weights.*; use every=1"),
    ],
)
def test_what_cannot_alternate_is_refused(text: str, message: str) -> None:
    with pytest.raises(AgentError, match=message):
        parse_aggregator(text)


def test_constructing_it_with_nothing_free_is_refused() -> None:
    with pytest.raises(AgentError, match="free=0 is not allowed"):
        Hybrid(make_aggregator("pcgrad"), free=0)


@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
def test_updates_that_alternate_are_not_recorded(kind: type) -> None:
    agent = _learned(kind, "pcgrad:free=1")
    assert agent.graph_obstacle == "its aggregator alternates with averaging"
