"""Rounds counted, statistics collected and shares turned into factors of the losses, by hand."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from mtrl.agents.curricula import make_curriculum, rounds
from mtrl.agents.curricula.base import (
    SHARED,
    CoupledCurriculum,
    Curriculum,
    CurriculumInfo,
    Geometry,
    Plan,
    State,
    Statistics,
    Tasks,
    Turn,
    uniform_share,
)
from mtrl.agents.curricula.coupling import MemberPull
from mtrl.agents.curricula.rounds import Rounds
from tests.agents.curricula.cases import NAMES, f64, tasks

PARAMS = {"actor": {"params": torch.zeros(1, 1)}}


def no_features() -> Tensor:
    raise AssertionError("nothing is coupled")


@dataclasses.dataclass(frozen=True)
class Given(Curriculum):
    """Decides what the test says."""

    info = CurriculumInfo("given", "this test", paces=True)
    decision: ClassVar[Plan]

    def plan(
        self, stats: Statistics, state: State, noise: Tensor, tasks: Tasks
    ) -> tuple[Plan, State]:
        return self.decision, state


def test_a_round_by_hand() -> None:
    curriculum = make_curriculum("success-focal", floor=0.0, round_steps=3)
    made = Rounds(curriculum, tasks(), "multi-head", {}, PARAMS, 0)
    assert made.due
    assert made.weights is None
    assert made.paused is None
    made.observe(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    made.observe(torch.tensor([[3.0, 2.0, 1.0, 0.0]]))
    made.observe(torch.tensor([[5.0]]), task=2)
    episodes: Any = SimpleNamespace(
        recent_success=f64(1, 0.5, 0, 0.5).numpy(),
        recent_return=f64(1, 2, 3, 4).numpy(),
        episodes=f64(5, 6, 7, 8).numpy(),
    )
    stats = made.statistics(episodes, updates=9)
    assert stats.loss.tolist() == [2, 2, 3, 2]
    assert stats.updates == 9
    made.begin(stats, PARAMS, no_features)
    assert made.plan.share.tolist() == [0, 0.25, 0.5, 0.25]
    assert made.weights is not None
    assert made.weights.tolist() == [[0, 1, 2, 1]]  # four times the shares
    shares = {f"curriculum/share/{name}": s for name, s in zip(NAMES, [0, 0.25, 0.5, 0.25])}
    assert made.metrics() == {"curriculum/round": 1.0} | shares
    for steps, due in ((2, False), (1, True), (1, True)):
        made.count(steps)
        assert made.due == due
    # The next round's losses are its own.
    assert made.statistics(episodes).loss.tolist() == [0, 0, 0, 0]
    made.begin(stats, PARAMS, no_features)
    assert not made.due
    made.observe(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    assert made.statistics(episodes).loss.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("cycles", [False, True])
def test_a_cycle_of_shares_is_for_agents_of_many_updates(
    cycles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cycle = torch.stack([f64(1, 0, 0, 0), f64(0, 0.5, 0.25, 0.25)])
    active = torch.tensor([True, False, True, True])
    decision = Plan(f64(0, 0.5, 0.25, 0.25), active=active, cycle=cycle)
    monkeypatch.setattr(Given, "decision", decision, raising=False)
    made = Rounds(Given(), tasks(), "multi-head", {}, PARAMS, 0, cycles)
    assert made.paused is not None
    assert made.paused.tolist() == [False] * 4
    made.begin(ZEROS, PARAMS, no_features)
    assert made.paused.tolist() == [False, True, False, False]
    assert made.weights is not None
    if cycles:
        assert made.weights.tolist() == [[[4, 0, 0, 0], [0, 2, 1, 1]]]
        assert made.plan.share.tolist() == [0.5, 0.25, 0.125, 0.125]
    else:
        assert made.weights.tolist() == [[0, 2, 1, 1]]
        assert made.plan.share.tolist() == [0, 0.5, 0.25, 0.25]


@dataclasses.dataclass(frozen=True)
class InOrder(CoupledCurriculum):
    """Turns 2, 0, 3, 1 in a coupled round, the first; every task is pulled to the next one."""

    info = CurriculumInfo("in-order", "this test", SHARED | {"separate"}, couples=True)

    def init(self, tasks: Tasks) -> State:
        return {"turns": torch.zeros((), dtype=torch.int64)}

    def plan(
        self, stats: Statistics, state: State, noise: Tensor, tasks: Tasks
    ) -> tuple[Plan, State]:
        return Plan(uniform_share(4), coupled=stats.updates == 0), self.init(tasks)

    def turn(self, geometry: Geometry, state: State, tasks: Tasks) -> tuple[Turn, State]:
        task = [2, 0, 3, 1][int(state["turns"])]
        combination = torch.eye(4, dtype=torch.float64)[(task + 1) % 4]
        return Turn(task, combination, 0.1), {"turns": state["turns"] + 1}

    def log(self, state: State) -> dict[str, Tensor]:
        return dict(state)


ZEROS = Statistics(f64(0, 0, 0, 0), f64(0, 0, 0, 0), f64(0, 0, 0, 0), f64(0, 0, 0, 0))


def test_a_coupled_round_is_shared_out_in_equal_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight steps are two of each of four tasks; a round that runs over stays with the last."""
    nothing = torch.zeros(4, 4)
    monkeypatch.setattr(rounds, "geometry", lambda *arguments: Geometry(nothing, nothing))
    monkeypatch.setattr(rounds, "member_pull", lambda *arguments: MemberPull(1.0, 0.1, {}))
    made = Rounds(InOrder(round_steps=8), tasks(), "separate", {}, PARAMS, 0)
    for _ in range(2):
        made.begin(ZEROS, PARAMS, no_features)
        assert made.coupled
        seen = []
        for _ in range(10):
            seen.append(made.member(0.5, PARAMS, lambda: nothing)[0])
            made.count(1)
        assert seen == [2, 2, 0, 0, 3, 3, 1, 1, 1, 1]
        assert made.metrics()["curriculum/turns"] == 4


def test_heads_are_pulled_in_coupled_rounds_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = torch.zeros(4, 4)
    monkeypatch.setattr(rounds, "geometry", lambda *arguments: Geometry(nothing, nothing))
    made = Rounds(InOrder(), tasks(), "multi-head", {}, PARAMS, 0)
    made.begin(ZEROS, PARAMS, lambda: nothing)
    assert not made.coupled  # all train at once
    assert made.head_pull is not None
    assert made.head_pull.strength == 0.1
    assert made.head_pull.combinations.tolist() == torch.eye(4).roll(1, 1).tolist()
    made.begin(dataclasses.replace(ZEROS, updates=1), PARAMS, no_features)
    assert made.head_pull is None
