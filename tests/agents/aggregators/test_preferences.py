"""Preferences of the tasks, by hand on orthogonal gradients, and tasks that take no part."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtrl.agents.aggregators import (
    AGGREGATORS,
    Inputs,
    combine,
    gramian,
    make_aggregator,
    parse_aggregator,
)
from mtrl.agents.errors import AgentError
from mtrl.agents.optim.shares import task_preferences
from tests.agents.aggregators.cases import inputs_for, jacobian

# Orthogonal gradients of lengths 2 and 1.
ORTHOGONAL = torch.diag(torch.tensor([4.0, 1.0], dtype=torch.float64))
PREFER = [name for name, cls in AGGREGATORS.items() if cls().info.shares == "preferences"]
GROUPS = [name for name, cls in AGGREGATORS.items() if cls().info.shares == "groups"]


def weights(text: str, matrix: Tensor, preferences: list[float] | None) -> Tensor:
    aggregator = parse_aggregator(text)
    given_ = None if preferences is None else torch.tensor(preferences, dtype=torch.float64)
    count = len(matrix)
    inputs = Inputs(
        gramian=matrix,
        losses=torch.ones(count, dtype=torch.float64),
        noise=torch.linspace(0.1, 0.9, count, dtype=torch.float64),
        preferences=given_,
    )
    out, _ = aggregator.weights(inputs, aggregator.init(count))
    assert out.converged
    return out.weights


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Both aligned gradients have the shorter length, 1: w = (½, 1) ⊙ p.
        ("aligned-mtl", (3 / 8, 1 / 4)),
        # α_i = √(c_i / G_ii) with c = m p = (3/2, 1/2).
        ("nash-mtl:max_norm=0", ((3 / 8) ** 0.5, 0.5**0.5)),
        # G_ii α_i = (c_i / α_i)^(1/2), so α_i = (√c_i / G_ii)^(2/3).
        ("fairgrad:a=2", ((1.5**0.5 / 4) ** (2 / 3), (0.5**0.5) ** (2 / 3))),
        # Without a radius the update is g0, whose coefficients are p.
        ("cagrad:c=0", (3 / 4, 1 / 4)),
    ],
)
def test_preferences_by_hand(text: str, expected: tuple[float, float]) -> None:
    found = weights(text, ORTHOGONAL, [3 / 4, 1 / 4])
    torch.testing.assert_close(found, torch.tensor(expected).double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", PREFER)
def test_equal_preferences_change_nothing(name: str) -> None:
    matrix = gramian(jacobian(3, 4, 30, "conflicting"))
    plain = weights(name, matrix, None)
    torch.testing.assert_close(weights(name, matrix, [0.25] * 4), plain)


@pytest.mark.parametrize("name", PREFER)
@given(seed=st.integers(0, 1000), task=st.integers(0, 3))
@settings(max_examples=15, deadline=None)
def test_a_preferred_task_gains_more(name: str, seed: int, task: int) -> None:
    """The share of ``g_i · d`` in units of ‖g_i‖ ‖d‖ grows with the task's preference."""
    rows = jacobian(seed, 4, 30)
    matrix = gramian(rows)
    gains = []
    for share in (0.1, 0.4, 0.7):
        p = [(1 - share) / 3] * 4
        p[task] = share
        direction = combine(rows, weights(name, matrix, p))
        gains.append(float(rows[task] @ direction / rows[task].norm() / direction.norm()))
    assert gains[0] < gains[1] < gains[2]


@pytest.mark.parametrize("name", [*PREFER, *GROUPS])
def test_a_task_that_takes_no_part_leaves_the_solve(name: str) -> None:
    """Its gradient comes as zero. The weights of the others are those of a solve without it; MGDA's too."""
    rows = jacobian(5, 3, 30, "conflicting")
    rows[1] = 0
    others = rows[[0, 2]]
    text = f"{name}:n=9" if name == "cagrad-fast" else name
    if name == "nash-mtl":
        text = f"{name}:max_norm=0"
    found = weights(text, gramian(rows), [0.5, 0.0, 0.5])
    expected = weights(text, gramian(others), [0.5, 0.5])
    if name in ("fairgrad", "nash-mtl"):
        # They solve with c = m p, which is 3/2 for each of the two; α scales with its root.
        expected = expected * 1.5**0.5
    if name == "cagrad-fast":
        # g0 is the mean over all rows there, a third of their sum instead of half.
        expected = expected * 2 / 3
    torch.testing.assert_close(found[[0, 2]], expected, rtol=1e-5, atol=1e-7)
    direction = combine(rows, found)
    assert direction.norm() > 1e-3


def test_mgda_by_hand_without_the_task_that_rests() -> None:
    """Of orthogonal gradients of squared lengths 4 and 1 the shortest combination is (1/5, 4/5)."""
    matrix = torch.diag(torch.tensor([4.0, 1.0, 0.0], dtype=torch.float64))
    expected = torch.tensor([0.2, 0.8, 0.0], dtype=torch.float64)
    torch.testing.assert_close(weights("mgda", matrix, [0.5, 0.5, 0.0]), expected)
    # A task that does take part and has no gradient is the shortest vector.
    assert weights("mgda", matrix, None).tolist() == [0, 0, 1]
    two = torch.diag(torch.tensor([4.0, 0.0, 0.0], dtype=torch.float64))
    assert weights("mgda", two, None).tolist() == [0, 0.5, 0.5]


def test_preferences_are_named_by_task() -> None:
    names = ("reach-v3", "push-v3", "door-open-v3")
    named = parse_aggregator("aligned-mtl:preference=reach-v3:2/push-v3:1,every=4")
    assert task_preferences(named, names) == (0.5, 0.25, 0.25)
    assert task_preferences(make_aggregator("aligned-mtl"), names) is None
    assert task_preferences(make_aggregator("mgda"), names) is None
    wrong = parse_aggregator("aligned-mtl:preference=reach-v2:2")
    with pytest.raises(
        AgentError, match=r"preference: 'reach-v2' is unknown; did you mean 'reach-v3'"
    ):
        task_preferences(wrong, names)


@pytest.mark.parametrize(
    "text", ["reach-v3", "reach-v3:0", "reach-v3:x", "a:1/a:2", ":2", "a:inf"]
)
def test_badly_written_preferences(text: str) -> None:
    with pytest.raises(
        AgentError, match=r"preference=.* is not allowed; it must be TASK:NUMBER"
    ):
        make_aggregator("aligned-mtl", preference=text)


def test_every_method_says_what_it_makes_of_shares() -> None:
    """Methods whose update follows the factors of the losses: twice the losses of task 0, twice its part."""
    for name, cls in AGGREGATORS.items():
        info = cls().info
        if info.shares != "losses" or info.direction_only or "gramian" not in info.needs:
            continue
        rows = jacobian(2, 3, 20)
        inputs = inputs_for(cls(), rows)
        state = cls().init(3)
        out, _ = cls().weights(inputs, state)
        more = rows.clone()
        more[0] *= 2
        heavier, _ = cls().weights(inputs_for(cls(), more), state)
        assert rows[0] @ combine(more, heavier.weights) > rows[0] @ combine(
            rows, out.weights
        ), name
