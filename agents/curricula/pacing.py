"""Success pacing: tasks that succeed collect data less often, which saves env steps for the others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl.agents.curricula.base import (
    Curriculum,
    CurriculumInfo,
    Plan,
    State,
    Statistics,
    Tasks,
    require,
    uniform_share,
)


@dataclass(frozen=True)
class SuccessPacing(Curriculum):
    """Each task collects in a share of the rounds, its rate ``(1 − success) / margin``, at least ``floor``, at most 1.

    A task is due when its rates since the last time add up to 1; when none is due, all are. Between two of its rounds a
    task keeps learning from its last rollout, with ratios clipped around the policy that collected it (sample reuse as
    of Queeney et al. 2021), so the networks it shares do not drift away from it. Shares of the gradient stay equal.
    """

    margin: float = 0.2
    """Failure rate from which on a task collects in every round."""
    floor: float = 0.125
    """Rate of a task that never fails."""

    info = CurriculumInfo(
        "success-pacing",
        "active sampling by success, after Sharma et al. 2018",
        paces=True,
        shares="equal",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self,
            0 < self.margin <= 1,
            "margin",
            "greater than 0 and at most 1",
        )
        require(
            self,
            0 < self.floor <= 1,
            "floor",
            "greater than 0 and at most 1",
        )

    def init(self, tasks: Tasks) -> State:
        return {"credit": torch.zeros(tasks.num_tasks, dtype=torch.float64)}

    def plan(
        self, stats: Statistics, state: State, noise: Tensor, tasks: Tasks
    ) -> tuple[Plan, State]:
        rate = ((1 - stats.success) / self.margin).clamp(self.floor, 1)
        credit = state["credit"] + rate
        # Ten rates of 0.1 sum to a little less than 1.
        due = credit >= 1 - 1e-9
        # A plan needs at least one active task.
        if not due.any():
            due = torch.ones_like(due)
        new = {"credit": torch.where(due, (credit - 1).clamp_min(0), credit)}
        return Plan(uniform_share(tasks.num_tasks), active=due, log={"rate": rate}), new
