"""CAMRL's rounds: B is untouched in single mode, orders are permutations, transfer goes where it helps."""

from __future__ import annotations

import math
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


@settings(deadline=None, max_examples=6)
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


def test_plans_leave_the_matrix_alone_and_warm_up_comes_first() -> None:
    curriculum, case = CAMRL(warmup=2), tasks()
    state = curriculum.init(case)
    # The indicator is near two thirds in young runs.
    rounds = ((0.0, False), (0.0, False), (0.0, True), (0.9, False), (0.0, True))
    for number, (draw, coupled) in enumerate(rounds):
        before = state["transfer"].clone()
        plan, state = curriculum.plan(random_statistics(number), state, f64(draw), case)
        assert plan.coupled == coupled
        assert torch.equal(state["transfer"], before)
        if coupled:
            _, state = _play(curriculum, state, _random_geometry(number), case)
            assert not torch.equal(state["transfer"], before)


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


def test_each_term_of_the_row_loss_changes_rows() -> None:
    case = tasks()

    def transfer(**off: float) -> Tensor:
        curriculum = CAMRL(**ALWAYS, prior="open/pick/push/reach", **off)
        state = curriculum.init(case)
        for number in range(4):
            _, state = curriculum.plan(random_statistics(number), state, f64(0.5), case)
            _, state = _play(curriculum, state, _random_geometry(number), case)
        return state["transfer"]

    full = transfer()
    for term in range(5):
        assert not torch.equal(transfer(**{f"lambda{term}": 0.0}), full), term


def test_a_round_by_hand() -> None:
    """With term 0 alone a waiting task's loss is ``l_t − mu2 l_t``: tasks come in the order of their success.

    Its slope, ``mu (l_t − l_j)`` for another task and ``−mu l_t`` for the task itself, does not depend on the row, so
    Frank–Wolfe ends in a corner. Tasks 1 and 3, of losses 0.1 and 0.3, send all to task 0, whose loss is 0.8; task 2,
    of 0.5, and task 0 keep all. Task 0, the last, is pulled half to task 1 and half to task 3.
    """
    off = {f"lambda{k}": 0.0 for k in range(1, 5)}
    curriculum, case = CAMRL(**ALWAYS, **off, weighting="fixed", pull=0.3), tasks()
    _, state = curriculum.plan(
        statistics(f64(0.2, 0.9, 0.5, 0.7)), curriculum.init(case), f64(0.5), case
    )
    turns, state = _play(curriculum, state, _random_geometry(0), case)
    assert [turn.task for turn in turns] == [1, 3, 2, 0]
    rows = [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]]
    assert state["transfer"].tolist() == rows
    combinations = [turn.combination.tolist() for turn in turns]
    assert combinations == [[0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0], [0, 0.5, 0, 0.5]]
    assert {turn.strength for turn in turns} == {0.3}


def test_returns_far_from_those_before_are_extremes_by_hand() -> None:
    """Returns of 0 and 2 in turn have mean 1 and deviation 1.15; 10 and −10 lie beyond two of them, 1 does not."""
    curriculum, case = CAMRL(), tasks()
    state = curriculum.init(case)
    success = f64(0.5, 0.5, 0.5, 0.5)
    for value in (0, 2, 0, 2):
        score = torch.full((4,), value, dtype=torch.float64)
        _, state = curriculum.plan(statistics(success, score), state, f64(0.5), case)
    plan, _ = curriculum.plan(statistics(success, f64(10, 1, 1, -10)), state, f64(0.5), case)
    assert plan.log["indicator_extremes"].item() == 0.5


def test_a_task_loss_can_be_the_gap_to_its_best_return_by_hand() -> None:
    curriculum, case = CAMRL(measure="return"), tasks()
    state = curriculum.init(case)
    for score, loss in ((f64(0, 4, 1, 1), [1, 1, 1, 1]), (f64(4, 0, 2, 1), [0, 1, 0, 1])):
        _, state = curriculum.plan(statistics(torch.zeros(4), score), state, f64(0.5), case)
        assert state["loss"].tolist() == loss
    _, state = curriculum.plan(
        statistics(torch.zeros(4), f64(1, 3, 2, 1)), state, f64(0.5), case
    )
    assert state["loss"].tolist() == [0.75, 0.25, 0, 1]


def test_moments_of_the_terms_by_hand() -> None:
    """Over two waiting tasks, then 95 % of that and 5 % of a later one's."""
    curriculum = CAMRL(**ALWAYS)
    state = curriculum.init(tasks())
    terms = torch.tensor([[1.0] * 5, [3.0] * 5], dtype=torch.float64)
    state = state | curriculum._watch(terms, state)
    assert state["term_mean"].tolist() == [2] * 5
    assert state["term_square"].tolist() == [5] * 5
    state = state | curriculum._watch(torch.full((1, 5), 4.0).double(), state)
    assert state["term_mean"].tolist() == pytest.approx([2.1] * 5)
    assert state["term_square"].tolist() == pytest.approx([5.55] * 5)


def test_learned_weights_by_hand() -> None:
    """At s = log 2 the factor is ½ / 4, and the slope of ``½ f / 4 + s`` is ``1 − f / 4``, kept within ±3."""
    curriculum = CAMRL(**ALWAYS, weighting="learned", learning_rate=0.1, lambda1=2.0)
    s = torch.full((5,), 2.0).double().log()
    weights, constant = curriculum._weights(curriculum.init(tasks()) | {"log_sigma": s})
    assert weights.tolist() == pytest.approx([0.125, 0.25, 0.125, 0.125, 0.125])
    assert constant.item() == pytest.approx(5 * math.log(2))
    moved = curriculum._learn(s, f64(0, 4, 8, 1000, 4))
    assert (moved - s)[:3].tolist() == pytest.approx([-0.1, 0, 0.1])
    assert moved[3] == 3


def test_inner_products_are_in_units_of_their_mean_diagonal() -> None:
    curriculum, case = CAMRL(**ALWAYS), tasks(count=2)
    products = torch.tensor([[1.0, 2.0], [2.0, 5.0]], dtype=torch.float64)
    found = curriculum._situation(Geometry(products, products), curriculum.init(case), case)
    assert found.products.tolist() == [[1 / 3, 2 / 3], [2 / 3, 5 / 3]]
    nothing = curriculum._situation(
        Geometry(0 * products, products), curriculum.init(case), case
    )
    assert not nothing.products.any()


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
