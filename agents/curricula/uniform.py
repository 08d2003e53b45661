"""No curriculum: every task always trains, with equal shares."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mtrl.agents.curricula.base import (
    SHARED,
    Curriculum,
    CurriculumInfo,
    Plan,
    State,
    Statistics,
    Tasks,
    uniform_share,
)


@dataclass(frozen=True)
class Uniform(Curriculum):
    """Equal shares. With ``heads=separate`` this is training one agent per task, none knowing of the others."""

    info = CurriculumInfo(
        "uniform", "plain multi-task training", heads=SHARED | {"separate"}, shares="equal"
    )

    def plan(
        self, stats: Statistics, state: State, noise: Tensor, tasks: Tasks
    ) -> tuple[Plan, State]:
        return Plan(uniform_share(tasks.num_tasks)), state
