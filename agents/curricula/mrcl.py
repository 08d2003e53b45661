"""MRCL: larger shares for tasks whose prerequisites are mastered and which are not mastered themselves."""

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
class MRCL(Curriculum):
    """Mastering-rate curriculum (Willems et al. 2020).

    Mastering rate ``M = (mean of the last K rounds − min) / (max − min)``. Attention of task t is
    ``min M(ancestors)^power · ((1 − gamma) |LP_t| / max |LP| + gamma (1 − M_t)) · (1 − min M(successors))``, with LP
    the slope over the same rounds; the factors are 1 where a task has no ancestors or no successors. Each task then
    hands ``delta_pred`` of its attention to the tasks it builds on and ``delta_succ`` to those that build on it, and
    shares are proportional, mixed with ``epsilon`` of equal shares.

    The task graph is that of ``envs/specs.py``; without edges only progress and mastery count.
    """

    window: int = 10
    """Rounds over which mastery and progress are taken (K)."""
    power: float = 6.0
    """Exponent of the mastery of the tasks that a task builds on."""
    gamma: float = 0.5
    """Weight of what is not yet mastered against progress."""
    delta_pred: float = 0.2
    """Share of a task's attention handed to the tasks it builds on."""
    delta_succ: float = 0.05
    """Share of a task's attention handed to the tasks that build on it."""
    epsilon: float = 0.1
    """Share of equal shares in the result."""
    measure: Literal["success", "return"] = "success"
    """``success`` is between 0 and 1 by itself; ``return`` takes the task's smallest and largest window mean so far
    as min and max."""

    info = CurriculumInfo("mrcl", "Willems et al. 2020, mastering-rate-based curriculum")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, self.window >= 2, "window", "at least 2")
        require(self, self.power >= 0, "power", "at least 0")
        for name in ("gamma", "epsilon", "delta_pred", "delta_succ"):
            require(
                self,
                0 <= getattr(self, name) <= 1,
                name,
                "in [0, 1]",
            )
        require(
            self, self.delta_pred + self.delta_succ <= 1, "delta_pred", "at most 1 - delta_succ"
        )

    def init(self, tasks: Tasks) -> State:
        unset = torch.full((tasks.num_tasks,), torch.inf, dtype=torch.float64)
        return history(tasks.num_tasks, self.window) | {"low": unset, "high": -unset}

    def plan(
        self, stats: Statistics, state: State, noise: Tensor, tasks: Tasks
    ) -> tuple[Plan, State]:
        value = stats.success if self.measure == "success" else stats.episode_return
        new = push(state, value)
        rounds = filled(new)
        mean = rounds.mean(0)
        progress = slope(rounds).abs()
        low = torch.minimum(state["low"], mean)
        high = torch.maximum(state["high"], mean)
        if self.measure == "success":
            mastered = mean.clamp(0, 1)
        else:
            span = high - low
            rate = (mean - low) / torch.where(span > 0, span, 1.0)
            mastered = torch.where(span > 0, rate, 0.0)
        attention = self._attention(mastered, progress, tasks.builds_on)
        focus = self._redistribute(attention, tasks.builds_on)
        share = proportional(focus, self.epsilon)
        plan = Plan(share, log={"mastering_rate": mastered})
        return plan, new | {"low": low, "high": high}

    def _attention(self, mastered: Tensor, progress: Tensor, builds_on: Tensor) -> Tensor:
        ancestors = reachable(builds_on)
        below = _least(mastered, ancestors, empty=1.0)
        above = _least(mastered, builds_on.T, empty=0.0)
        fastest = progress.max()
        relative = progress / torch.where(fastest > 0, fastest, 1.0)
        moving = torch.where(fastest > 0, relative, 0.0)
        learnable = (1 - self.gamma) * moving + self.gamma * (1 - mastered)
        return below**self.power * learnable * (1 - above)

    def _redistribute(self, attention: Tensor, builds_on: Tensor) -> Tensor:
        handed = torch.zeros_like(attention)
        kept = torch.ones_like(attention)
        for delta, edges in ((self.delta_pred, builds_on), (self.delta_succ, builds_on.T)):
            count = edges.sum(1)
            part = delta * (count > 0).to(attention.dtype)
            # A task without such neighbors keeps what it would have handed over.
            per_neighbor = part * attention / count.clamp(min=1)
            sent = edges.to(attention.dtype) * per_neighbor.unsqueeze(1)
            handed = handed + sent.sum(0)
            kept = kept - part
        return kept * attention + handed


def reachable(builds_on: Tensor) -> Tensor:
    """Ancestors: the transitive closure of ``builds_on``, bool ``[T, T]``."""
    closure = builds_on.clone()
    # No path without a cycle is longer than the number of tasks.
    for _ in range(len(builds_on)):
        steps = closure.double() @ builds_on.double()
        closure = closure | (steps > 0)
    return closure


def _least(value: Tensor, edges: Tensor, empty: float) -> Tensor:
    """Smallest ``value`` over each row's edges; ``empty`` where it has none."""
    least = torch.where(edges, value.unsqueeze(0), torch.inf).amin(1)
    return torch.where(edges.any(1), least, torch.full_like(least, empty))
