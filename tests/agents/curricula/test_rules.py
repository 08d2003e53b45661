"""What the single curricula decide, on cases worked by hand."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtrl.agents.curricula import Plan, State, make_curriculum
from mtrl.agents.curricula.base import Curriculum, Tasks
from mtrl.agents.curricula.coloring import welsh_powell
from mtrl.agents.curricula.grouping import affinity, average_linkage
from mtrl.agents.curricula.history import slope
from mtrl.agents.curricula.mrcl import MRCL, reachable
from mtrl.agents.curricula.son_goku import SonGoku, interference_graph
from tests.agents.curricula.cases import f64, statistics, tasks

NONE = torch.zeros(0, dtype=torch.float64)


def _run(
    curriculum: Curriculum, rounds: list[Tensor], case: Tasks, score: bool = False
) -> tuple[list[Plan], State]:
    state, plans = curriculum.init(case), []
    for value in rounds:
        stats = statistics(torch.zeros_like(value), value) if score else statistics(value)
        plan, state = curriculum.plan(stats, state, NONE, case)
        plans.append(plan)
    return plans, state


def test_success_focal_by_hand() -> None:
    plan, _ = make_curriculum("success-focal", gamma=2.0, floor=0.5).plan(
        statistics(f64(1.0, 0.5, 0.0, 0.5)), {}, NONE, tasks()
    )
    raw = f64(0, 0.25, 1, 0.25) / 1.5
    torch.testing.assert_close(plan.share, 0.5 * raw + 0.125)


def test_tasks_that_succeed_collect_in_their_share_of_the_rounds() -> None:
    pacing = make_curriculum("success-pacing", margin=0.2, floor=0.25)
    plans, _ = _run(pacing, [f64(1.0, 0.9, 0.5, 0.81)] * 40, tasks())
    active = torch.stack([plan.active for plan in plans if plan.active is not None])
    assert active.sum(0).tolist() == [10, 20, 40, 38]
    assert active[:8, 0].tolist() == [False, False, False, True] * 2
    torch.testing.assert_close(plans[0].log["rate"], f64(0.25, 0.5, 1.0, 0.95))


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=60))
def test_no_task_waits_longer_than_its_floor_allows(success: list[list[float]]) -> None:
    plans, _ = _run(
        make_curriculum("success-pacing", floor=0.125), [f64(*row) for row in success], tasks()
    )
    waited = torch.zeros(4)
    for plan, row in zip(plans, success):
        assert plan.active is not None and plan.active[f64(*row) <= 0.8].all()
        waited = torch.where(plan.active, 0.0, waited + 1)
        assert (waited < 8).all()


def test_when_no_task_is_due_all_are() -> None:
    plans, state = _run(
        make_curriculum("success-pacing"), [f64(1.0, 1.0, 1.0, 1.0)] * 3, tasks()
    )
    assert all(plan.active is not None and plan.active.all() for plan in plans)
    assert state["credit"].tolist() == [0, 0, 0, 0]  # and none owes what it collected early


@settings(deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=12), st.floats(-5, 5))
def test_slope_is_that_of_the_line(noise: list[float], rise: float) -> None:
    values = f64(*noise) + rise * torch.arange(len(noise))
    time = torch.arange(len(noise), dtype=torch.float64)
    design = torch.stack([time, torch.ones_like(time)], 1)
    wanted = torch.linalg.lstsq(design, values.unsqueeze(1)).solution[0, 0]
    torch.testing.assert_close(slope(values.unsqueeze(1))[0], wanted, rtol=1e-6, atol=1e-8)


def test_success_progress_has_no_scale_and_no_sign() -> None:
    rounds = [f64(0.1 * n, 0.05 * n, 0.5, 1.0 - 0.05 * n) for n in range(6)]
    curriculum = make_curriculum("learning-progress", floor=0.0, measure="success")
    plan = _run(curriculum, rounds, tasks())[0][-1]
    torch.testing.assert_close(plan.share, f64(0.5, 0.25, 0.0, 0.25))


def test_competence_progress_by_hand() -> None:
    """Of five rounds the oldest is left out: means of the last two less means of the two before."""
    rounds = [
        f64(1.0, 0.0, 0.0, 0.9),
        f64(0.0, 0.9, 0.5, 0.5),
        f64(0.2, 0.7, 0.5, 0.5),
        f64(0.4, 0.5, 0.5, 0.5),
        f64(0.6, 0.3, 0.7, 0.5),
    ]
    plan = _run(make_curriculum("competence-progress", floor=0.0), rounds, tasks())[0][-1]
    progress = f64(0.4, 0.4, 0.1, 0.0)
    torch.testing.assert_close(plan.log["competence_progress"], progress)
    torch.testing.assert_close(plan.share, progress / 0.9)


def test_return_progress_is_on_each_tasks_own_scale() -> None:
    rounds = [f64(1.0 * n, 1000.0 * n, 7.0, 0.0) for n in range(6)]
    plan = _run(make_curriculum("learning-progress", floor=0.0), rounds, tasks(), score=True)[
        0
    ][-1]
    torch.testing.assert_close(plan.share, f64(0.5, 0.5, 0, 0))


def test_mirror_ascent_follows_the_gap_and_forgets() -> None:
    curriculum = make_curriculum("drats", floor=0.0, decay=0.0, eta=1.0)
    plans, _ = _run(curriculum, [f64(1.0, 0.0, 0.5, 0.5)] * 2, tasks())
    torch.testing.assert_close(plans[1].share, f64(0.0, 2.0, 1.0, 1.0).softmax(0))
    forgetful = make_curriculum("drats", floor=0.0, decay=0.5)
    plans, _ = _run(
        forgetful, [f64(1.0, 0.0, 0.5, 0.5)] * 3 + [f64(1.0, 1.0, 1.0, 1.0)] * 30, tasks()
    )
    assert plans[2].share[1] > 0.3 and plans[-1].share[1].item() == pytest.approx(
        0.25, abs=1e-6
    )


def test_mirror_ascent_on_the_gap_to_the_best_return_by_hand() -> None:
    """Gaps: all 1 without a range; then (0, 1, 1, 1) in ranges (0, 10), none, (0, 5), none; then (½, 1, 0, 0)."""
    curriculum = make_curriculum("drats", gap="return", eta=2.0, floor=0.2, decay=0.0)
    rounds = [f64(0, 10, 5, 5), f64(10, 10, 0, 5), f64(5, 0, 5, 10)]
    plan = _run(curriculum, rounds, tasks(), score=True)[0][-1]
    torch.testing.assert_close(plan.log["gap"], f64(0.5, 1, 0, 0))
    torch.testing.assert_close(plan.share, 0.8 * f64(3, 6, 4, 4).softmax(0) + 0.05)


CHAIN = ((1, 0), (2, 1))  # push builds on reach, pick on push; open stands alone


def test_mastering_rates_open_the_next_task() -> None:
    curriculum = MRCL(epsilon=0.0, delta_pred=0.0, delta_succ=0.0)
    start = _run(curriculum, [f64(0, 0, 0, 0)] * 10, tasks(CHAIN))[0][-1]
    assert start.share[1] == start.share[2] == 0  # nothing they build on is mastered
    assert start.share[0].item() == pytest.approx(0.5)
    later = _run(curriculum, [f64(1, 0, 0, 0)] * 10, tasks(CHAIN))[0][-1]
    assert later.share[0] == 0 and later.share[1] > 0 and later.share[2] == 0
    end = _run(curriculum, [f64(1, 1, 0, 0)] * 10, tasks(CHAIN))[0][-1]
    assert end.share[2] > 0 and end.share[0] == end.share[1] == 0


def test_attention_by_hand() -> None:
    """A task waits for all it builds on, however far, and one that falls moves too."""
    curriculum = MRCL(window=2, gamma=0.25, epsilon=0.0, delta_pred=0.0, delta_succ=0.0)
    rounds = [f64(0.2, 0.6, 0.0, 0.6), f64(0.4, 1.0, 0.0, 0.4)]
    plan = _run(curriculum, rounds, tasks(CHAIN))[0][-1]
    mastered, moving = f64(0.3, 0.8, 0.0, 0.5), f64(0.5, 1.0, 0.0, 0.5)
    own = 0.75 * moving + 0.25 * (1 - mastered)
    attention = f64(0.2, 0.3**6, 0.3**6, 1.0) * own  # 1 − M(push) = 0.2; 1 − M(pick) = 1
    torch.testing.assert_close(plan.share, attention / attention.sum())


def test_mastery_of_returns_is_the_place_in_the_range_of_their_means_by_hand() -> None:
    """Means of two rounds: (0, 2, 4); (10, 8, 9); the others have no range."""
    rounds = [f64(0, 10, 5, -2), f64(4, 6, 5, -2), f64(4, 12, 5, -2)]
    plan = _run(MRCL(window=2, measure="return"), rounds, tasks(), score=True)[0][-1]
    torch.testing.assert_close(plan.log["mastering_rate"], f64(1, 0.5, 0, 0))


def test_attention_is_handed_to_neighbors_and_none_is_lost() -> None:
    """Pick builds on reach and on push: it hands 0.1 of its attention to each, and gets 0.05 of theirs."""
    attention = f64(0.4, 0.4, 0.1, 0.1)
    out = MRCL()._redistribute(attention, tasks(((2, 0), (2, 1))).builds_on)
    torch.testing.assert_close(out, f64(0.39, 0.39, 0.12, 0.1))


def test_ancestors_are_transitive() -> None:
    found = reachable(tasks(CHAIN).builds_on)
    assert found.tolist() == [
        [False] * 4,
        [True] + [False] * 3,
        [True, True, False, False],
        [False] * 4,
    ]


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(0, 10_000))
def test_colorings_are_proper_and_use_few_colors(size: int, seed: int) -> None:
    upper = torch.rand(size, size, generator=torch.Generator().manual_seed(seed)) < 0.4
    edges = upper.triu(1) | upper.triu(1).T
    colors = welsh_powell(edges)
    assert not (edges & (colors.unsqueeze(0) == colors.unsqueeze(1))).any()
    assert sorted(set(colors.tolist())) == list(range(int(colors.max()) + 1))
    assert int(colors.max()) <= int(edges.sum(1).max())


def test_the_task_with_most_neighbors_is_colored_first() -> None:
    star = torch.zeros(4, 4, dtype=torch.bool)
    star[3, :3] = star[:3, 3] = True
    assert welsh_powell(star).tolist() == [1, 1, 1, 0]


def test_interference_is_minus_the_cosine() -> None:
    rows = f64(0.1, 0, -1, 0.1, 0, 1).view(3, 2)
    edges = interference_graph(rows @ rows.T, 0.5)
    assert edges.tolist() == [[False, True, False], [True, False, False], [False, False, False]]
    # At the start not even opposite gradients interfere, and at the end orthogonal ones do not.
    assert not interference_graph(f64(1, -1, -1, 1).view(2, 2), 1.0).any()
    assert not interference_graph(torch.eye(2, dtype=torch.float64), 0.0).any()


def test_interfering_tasks_train_at_different_times_once_tau_has_fallen() -> None:
    curriculum, case = SonGoku(recolor=2, anneal=4, tau=0.0), tasks(count=3)
    gramian = f64(1, -0.9, 0.1, -0.9, 1, 0.1, 0.1, 0.1, 1).view(3, 3)
    state, plans = curriculum.init(case), []
    for updates in range(8):
        asked = curriculum.wants_gramian(state, updates)
        stats = statistics(f64(0, 0, 0), gramian=gramian if asked else None)
        stats = dataclasses.replace(stats, updates=updates)
        plan, state = curriculum.plan(stats, state, NONE, case)
        plans.append(plan.share)
    assert all(torch.allclose(share, f64(1, 1, 1) / 3) for share in plans[:2])
    seen = {tuple((share > 0).tolist()) for share in plans[4:]}
    assert seen == {(True, False, True), (False, True, False)}


@given(seed=st.integers(0, 1000), start=st.integers(0, 500), length=st.integers(1, 60))
@settings(deadline=None, max_examples=50)
def test_in_any_updates_in_a_row_every_task_trains_its_part(
    seed: int, start: int, length: int
) -> None:
    """Of n updates in turn each task trains in at least ⌊n / colors⌋, and none of them trains two that interfere."""
    curriculum, case = SonGoku(anneal=1), tasks(count=4)
    rows = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    gramian = rows @ rows.T
    stats = dataclasses.replace(statistics(f64(0, 0, 0, 0), gramian=gramian), updates=start)
    plan, _ = curriculum.plan(stats, curriculum.init(case), NONE, case)
    edges = interference_graph(gramian, curriculum.threshold(start))
    if plan.cycle is None:
        assert not edges.any()
        return
    colors = len(plan.cycle)
    trains = plan.cycle[torch.arange(length) % colors] > 0
    assert (trains.sum(0) >= length // colors).all()
    assert ((plan.cycle > 0).sum(0) == 1).all()
    for row in trains:
        assert not edges[row][:, row].any()
    torch.testing.assert_close(plan.cycle.sum(1), torch.ones(colors, dtype=torch.float64))


def test_the_colors_go_on_where_the_last_round_ended() -> None:
    curriculum, case = SonGoku(anneal=1, recolor=1000), tasks(count=3)
    gramian = f64(1, -0.9, -0.9, -0.9, 1, -0.9, -0.9, -0.9, 1).view(3, 3)
    stats = dataclasses.replace(statistics(f64(0, 0, 0), gramian=gramian), updates=3)
    plan, state = curriculum.plan(stats, curriculum.init(case), NONE, case)
    assert plan.cycle.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    # After four more updates, which ended with the first color.
    later = dataclasses.replace(statistics(f64(0, 0, 0)), updates=7)
    plan, _ = curriculum.plan(later, state, NONE, case)
    assert plan.cycle.tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_threshold_falls_linearly_from_one() -> None:
    values = [SonGoku(tau=0.2, anneal=10).threshold(n) for n in range(15)]
    assert values[0] == 1 and values[10] == values[14] == pytest.approx(0.2)
    assert all(b < a for a, b in itertools.pairwise(values[:11]))


def test_affinity_is_the_mean_correlation_over_signals() -> None:
    """One signal rises, rises from elsewhere, or falls; the other is constant and correlates with nothing."""
    moves = f64(0, 10, 2, 1, 11, 1, 2, 12, 0).view(3, 1, 3)
    found = affinity(torch.cat([moves, torch.ones_like(moves)], 1))
    half = f64(1, 1, -1, 1, 1, -1, -1, -1, 1).view(3, 3) / 2
    torch.testing.assert_close(found, half)


def test_linkage_is_by_the_mean_over_pairs() -> None:
    """0 and 1 merge first. Task 2 is then 0.45 from them in the mean, though 0.8 from one, and 0.5 from task 3."""
    similarity = f64(1, 0.9, 0.1, 0, 0.9, 1, 0.8, 0, 0.1, 0.8, 1, 0.5, 0, 0, 0.5, 1).view(4, 4)
    assert average_linkage(similarity, 2).tolist() == [0, 0, 1, 1]
    assert average_linkage(similarity, 1).tolist() == [0, 0, 0, 0]
    assert average_linkage(similarity, 4).tolist() == [0, 1, 2, 3]


def test_groups_follow_the_last_rounds_and_take_turns_by_hand() -> None:
    """Changes pair 0 with 2 and 1 with 3, though 0 and 1 rise and 2 and 3 fall; two rounds later (0, 1) and (2, 3)."""
    curriculum = make_curriculum("task-grouping", window=3, regroup=2)
    rounds = [
        f64(0, 0, 0, 0),
        f64(0, 0, 0, 0),
        f64(10, 1, -1, -10),
        f64(11, 11, -11, -11),
        f64(12, 12, -11, -11),
        f64(12, 12, -10, -10),
    ]
    plans = _run(curriculum, rounds, tasks(), score=True)[0]
    assert all(plan.share.tolist() == [0.25] * 4 for plan in plans[:3])
    groups = [plan.log["group"].tolist() for plan in plans[3:]]
    assert groups == [[0, 1, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1]]
    shares = [plan.share.tolist() for plan in plans[3:]]
    assert shares == [[0, 0.5, 0, 0.5], [0.5, 0, 0.5, 0], [0, 0, 0.5, 0.5]]
