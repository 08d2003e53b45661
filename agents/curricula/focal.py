"""Success-focal curriculum: larger shares for the tasks that succeed less."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mtrl.agents.curricula.base import (
    Curriculum,
    CurriculumInfo,
    Plan,
    State,
    Statistics,
    Tasks,
    proportional,
    require,
)


@dataclass(frozen=True)
class SuccessFocal(Curriculum):
    """``share ∝ (1 − success)^gamma``, mixed with equal shares."""

    gamma: float = 1.0
    """How sharply shares follow failure."""
    floor: float = 0.2
    """Part of the budget that is shared equally."""

    info = CurriculumInfo(
        "success-focal", "focal weighting of Lin et al. 2017 (eq. 4), on success rates"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, self.gamma >= 0, "gamma", "at least 0")
        require(self, 0 <= self.floor <= 1, "floor", "in [0, 1]")

    def plan(
        self, stats: Statistics, state: State, noise: Tensor, tasks: Tasks
    ) -> tuple[Plan, State]:
        failure = (1 - stats.success).clamp(0, 1)
        share = proportional(failure**self.gamma, self.floor)
        return Plan(share), state
