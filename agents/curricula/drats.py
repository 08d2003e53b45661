"""Mirror ascent on the gap between each task's return and the best one seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
    return_gap,
)


@dataclass(frozen=True)
class DRATS(Curriculum):
    """Exponentiated shares ``q ← q exp(eta gap) / Z``: the mirror ascent of ``max_q min_policy Σ q_t gap_t``.

    The state holds ``log q`` relative to its mean, pulled back to equal shares by ``decay`` each round so that a task
    that was far behind once does not keep its share for ever.
    """

    eta: float = 0.5
    """Step size."""
    floor: float = 0.1
    """Part of the budget that is shared equally."""
    decay: float = 0.05
    """Share of the log weights forgotten each round."""
    gap: Literal["success", "return"] = "success"
    """``success`` is 1 − success rate; ``return`` is the distance from the best return seen, over its range."""

    info = CurriculumInfo(
        "drats",
        "return-gap mirror ascent: group DRO, Sagawa et al. 2020 (algorithm 1), on tasks",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, self.eta > 0, "eta", "greater than 0")
        require(self, 0 <= self.floor <= 1, "floor", "in [0, 1]")
        require(self, 0 <= self.decay <= 1, "decay", "in [0, 1]")

    def init(self, tasks: Tasks) -> State:
        zeros = torch.zeros(tasks.num_tasks, dtype=torch.float64)
        return {"log_weight": zeros, "low": zeros + torch.inf, "high": zeros - torch.inf}

    def plan(
        self, stats: Statistics, state: State, noise: Tensor, tasks: Tasks
    ) -> tuple[Plan, State]:
        low = torch.minimum(state["low"], stats.episode_return)
        high = torch.maximum(state["high"], stats.episode_return)
        gap = (1 - stats.success).clamp(0, 1)
        if self.gap == "return":
            gap = return_gap(stats.episode_return, low, high)
        log_weight = (1 - self.decay) * state["log_weight"] + self.eta * gap
        # The softmax ignores a common offset, which could grow from round to round.
        log_weight = log_weight - log_weight.mean()
        even = 1 / tasks.num_tasks
        share = (1 - self.floor) * log_weight.softmax(0) + self.floor * even
        new = {
            "log_weight": log_weight,
            "low": low,
            "high": high,
        }
        return Plan(share, log={"gap": gap}), new
