"""CAMRL's rounds: B is untouched in single mode, orders are permutations, transfer goes where it helps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtrl.agents.curricula import Geometry, State, Turn
from mtrl.agents.curricula.base import Tasks
from mtrl.agents.curricula.camrl.curriculum import CAMRL
from tests.agents.curricula.cases import f64, random_statistics, statistics, tasks

ALWAYS: dict[str, Any] = {"warmup": 0, "switch": False}


def _geometry(weights: Tensor) -> Geometry:
    return Geometry(weights @ weights.T, -torch.cdist(weights, weights).square())


def _random_geometry(seed: int, count: int = 4) -> Geometry:
    generator = torch.Generator().manual_seed(seed)
    return _geometry(torch.randn(count, 5, generator=generator, dtype=torch.float64))


def _play(
    curriculum: CAMRL, state: State, view: Geometry, case: Tasks
) -> tuple[list[Turn], State]:
    turns = []
    for _ in range(case.num_tasks):
        turn, state = curriculum.turn(view, state, case)
        turns.append(turn)
    return turns, state


@settings(deadline=None, max_examples=15)
@given(
    st.integers(0, 10_000),
    st.sampled_from(["variance", "learned", "fixed"]),
    st.sampled_from(["convex", "printed"]),
)
def test_orders_are_permutations_and_rows_feasible(
    seed: int, weighting: Any, combination: Any
) -> None:
    curriculum = CAMRL(**ALWAYS, weighting=weighting, combination=combination)
    case = tasks()
    state = curriculum.init(case)
    for number in range(3):
        plan, state = curriculum.plan(random_statistics(seed + number), state, f64(0.5), case)
        assert plan.coupled
        turns, state = _play(curriculum, state, _random_geometry(seed + number), case)
        assert sorted(turn.task for turn in turns) == [0, 1, 2, 3]
        assert state["order"].tolist() == [
            [turn.task for turn in turns].index(task) for task in range(4)
        ]
        assert (state["transfer"] >= -1e-12).all() and (
            state["transfer"].sum(1) <= 1 + 1e-12
        ).all()
        for turn in turns:
            assert (turn.combination >= -1e-12).all() and turn.strength == 0.1
            if combination == "convex":
                assert turn.combination.sum().item() == pytest.approx(1.0)


def test_evaluating_a_turn_has_no_side_effects() -> None:
    curriculum, case = CAMRL(**ALWAYS), tasks()
    _, state = curriculum.plan(random_statistics(0), curriculum.init(case), f64(0.5), case)
    before = {name: value.clone() for name, value in state.items()}
    first, _ = curriculum.turn(_random_geometry(0), state, case)
    second, after = curriculum.turn(_random_geometry(0), state, case)
    assert first.task == second.task and torch.equal(first.combination, second.combination)
    assert all(torch.equal(state[name], value) for name, value in before.items())
    changed = (after["transfer"] != state["transfer"]).any(1)
    assert [task for task in range(4) if changed[task]] in ([first.task], [])


def test_the_matrix_is_untouched_by_single_task_rounds() -> None:
    curriculum, case = CAMRL(warmup=2), tasks()
    state = curriculum.init(case)
    modes = []
    for number in range(60):
        noise = torch.rand(
            1, generator=torch.Generator().manual_seed(number), dtype=torch.float64
        )
        plan, state = curriculum.plan(random_statistics(number), state, noise, case)
        modes.append(plan.coupled)
        before = state["transfer"].clone()
        if plan.coupled:
            _, state = _play(curriculum, state, _random_geometry(number), case)
        else:
            assert torch.equal(state["transfer"], before)
        if number < 2:
            assert not plan.coupled and torch.equal(
                state["transfer"], torch.eye(4, dtype=torch.float64)
            )
    assert 20 < sum(modes) < 55  # the indicator is near two thirds in young runs


def test_the_mode_follows_the_indicator() -> None:
    curriculum, case = CAMRL(warmup=0), tasks()
    stats = statistics(f64(0.5, 0.5, 0.5, 0.5))
    plan, _ = curriculum.plan(stats, curriculum.init(case), f64(0.0), case)
    value = plan.log["indicator"].item()
    for draw, coupled in ((value - 1e-6, True), (value + 1e-6, False)):
        assert (
            curriculum.plan(stats, curriculum.init(case), f64(draw), case)[0].coupled == coupled
        )
    parts = [
        plan.log[f"indicator_{name}"].item() for name in ("extremes", "youth", "performance")
    ]
    assert value == pytest.approx(sum(parts) / 3)


def test_transfer_grows_where_it_is_known_to_help_and_not_elsewhere() -> None:
    """Task 0 is solved. Task 1 asks for nearly the same parameters and fails; task 2 fails too but lies elsewhere."""
    curriculum, case = CAMRL(**ALWAYS), tasks(count=3)
    weights = torch.tensor(
        [[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64
    )
    state = curriculum.init(case)
    for _ in range(5):
        _, state = curriculum.plan(statistics(f64(1.0, 0.1, 0.1)), state, f64(0.5), case)
        _, state = _play(curriculum, state, _geometry(weights), case)
    transfer = state["transfer"]
    assert transfer[0, 1] > 0.6
    assert transfer[0, 1] > 2 * max(
        transfer[0, 2], transfer[1, 2], transfer[2, 0], transfer[2, 1]
    )
    # Nothing flows from the one that fails to the one that is solved.
    assert transfer[1, 0] < 0.3


def test_descent_with_transfer_brings_the_failing_agent_to_the_solution() -> None:
    """Two agents on quadratics with a common optimum. Agent 1's own gradient is noise: only the pull can teach it."""
    curriculum, case = CAMRL(**ALWAYS), tasks(count=2)
    optimum = torch.tensor([1.0, -1.0, 2.0], dtype=torch.float64)
    weights, alone = torch.zeros(2, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    generator, state, grown = torch.Generator().manual_seed(0), curriculum.init(case), []
    for _ in range(40):
        error = (weights - optimum).square().sum(1)
        success = (-error).exp()
        _, state = curriculum.plan(statistics(success), state, f64(0.5), case)
        for _ in range(2):
            turn, state = curriculum.turn(_geometry(weights), state, case)
            keep = 1 - turn.combination[turn.task]
            for _ in range(10):
                noise = 0.1 * torch.randn(3, generator=generator, dtype=torch.float64)
                own = weights[0] - optimum if turn.task == 0 else noise
                others = turn.combination[1 - turn.task] * weights[1 - turn.task]
                pull = 2 * turn.strength * keep * (keep * weights[turn.task] - others)
                weights[turn.task] -= 0.1 * (own + 10 * pull)
                alone -= 0.1 * noise if turn.task else 0
        grown.append(float(state["transfer"][0, 1]))
    assert max(grown) > 0.8 and state["transfer"][1, 0] < 0.3
    assert (weights[1] - optimum).norm() < 0.2 < (alone - optimum).norm()


@pytest.mark.parametrize(
    "switched_off", ["lambda0", "lambda1", "lambda2", "lambda3", "lambda4"]
)
def test_each_ablation_changes_rows_or_leaves_out_a_term(switched_off: str) -> None:
    case = tasks()
    full, ablated = (
        CAMRL(**ALWAYS, prior="open/pick/push/reach"),
        CAMRL(**ALWAYS, prior="open/pick/push/reach", **{switched_off: 0.0}),
    )
    rows = []
    for curriculum in (full, ablated):
        state = curriculum.init(case)
        for number in range(4):
            _, state = curriculum.plan(random_statistics(number), state, f64(0.5), case)
            _, state = _play(curriculum, state, _random_geometry(number), case)
        rows.append(state["transfer"])
    assert not torch.equal(*rows)


def test_nothing_received_means_no_pull_unless_as_printed() -> None:
    case = tasks(count=2)
    transfer = torch.tensor([[0.0, 0.0], [0.0, 0.5]], dtype=torch.float64)
    assert CAMRL()._combination(transfer, 0).tolist() == [1, 0]
    assert CAMRL(combination="printed")._combination(transfer, 0).tolist() == [0, 0]
    assert case.num_tasks == 2


def test_more_than_a_whole_is_scaled_down() -> None:
    transfer = torch.tensor(
        [[0.0, 1.0, 0.0], [0.0, 0.2, 0.0], [0.0, 0.6, 0.0]], dtype=torch.float64
    )
    assert CAMRL()._combination(transfer, 1).tolist() == pytest.approx([1 / 1.6, 0, 0.6 / 1.6])


def test_running_variances_weigh_terms_and_have_a_floor() -> None:
    curriculum, case = CAMRL(**ALWAYS, floor=0.5), tasks()
    state = curriculum.init(case)
    state = state | {"term_mean": f64(0, 0, 0, 0, 1), "term_square": f64(0, 4, 0.1, 1, 2)}
    weights, constant = curriculum._weights(state)
    assert weights.tolist() == pytest.approx([2, 0.25, 2, 1, 1])
    assert constant.item() == pytest.approx(float(f64(0.5, 4, 0.5, 1, 1).log().sum()))
