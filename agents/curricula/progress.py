"""Larger shares for tasks that are learning, by the slope of their returns or the change of their success."""

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
    proportional,
    require,
)
from mtrl.agents.curricula.history import filled, history, push, slope


@dataclass(frozen=True)
class LearningProgress(Curriculum):
    """``share ∝ |slope|`` of the last rounds' returns, each task on its own scale, mixed with equal shares."""

    window: int = 10
    """Rounds the slope is fitted to."""
    floor: float = 0.2
    """Part of the budget that is shared equally."""
    measure: Literal["return", "success"] = "return"
    """``return`` divides by the task's range of returns so far, ``success`` is a rate already."""

    info = CurriculumInfo(
        "learning-progress",
        "Matiisen et al. 2019 (window algorithm); absolute value as Portelas et al. 2019",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, self.window >= 2, "window", "at least 2")
        require(self, 0 <= self.floor <= 1, "floor", "in [0, 1]")

    def init(self, tasks: Tasks) -> State:
        unset = torch.full((tasks.num_tasks,), torch.inf, dtype=torch.float64)
        return history(tasks.num_tasks, self.window) | {"low": unset, "high": -unset}

    def plan(
        self, stats: Statistics, state: State, noise: Tensor, tasks: Tasks
    ) -> tuple[Plan, State]:
        value = stats.episode_return if self.measure == "return" else stats.success
        low = torch.minimum(state["low"], value)
        high = torch.maximum(state["high"], value)
        new = push(state, value) | {"low": low, "high": high}
        # Success is a rate and needs no scale.
        scale = high - low if self.measure == "return" else torch.ones_like(high)
        moves = slope(filled(new)).abs()
        safe_scale = torch.where(scale > 0, scale, 1.0)
        progress = torch.where(scale > 0, moves / safe_scale, 0.0)
        share = proportional(progress, self.floor)
        return Plan(share, log={"learning_progress": progress}), new


@dataclass(frozen=True)
class CompetenceProgress(Curriculum):
    """``share ∝ |mean success of the newer half − of the older half|`` of a window, mixed with equal shares."""

    window: int = 20
    """Rounds looked at, an even number."""
    floor: float = 0.2
    """Part of the budget that is shared equally."""

    info = CurriculumInfo("competence-progress", "SAGG-RIAC, Baranes & Oudeyer 2013 (eq. 5)")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self,
            self.window >= 2 and self.window % 2 == 0,
            "window",
            "an even number of at least 2",
        )
        require(self, 0 <= self.floor <= 1, "floor", "in [0, 1]")

    def init(self, tasks: Tasks) -> State:
        return history(tasks.num_tasks, self.window)

    def plan(
        self, stats: Statistics, state: State, noise: Tensor, tasks: Tasks
    ) -> tuple[Plan, State]:
        new = push(state, stats.success)
        rounds = filled(new)
        half = len(rounds) // 2
        progress = torch.zeros_like(stats.success)
        if half:
            # With an odd number of rounds so far the oldest one is left out.
            newer = rounds[-half:].mean(0)
            older = rounds[-2 * half : -half].mean(0)
            progress = (newer - older).abs()
        share = proportional(progress, self.floor)
        return Plan(share, log={"competence_progress": progress}), new
