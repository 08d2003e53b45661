"""CAMRL's mode indicator: how likely a round is multi-task (Huang et al., TPAMI 2023)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mtrl.agents.curricula.base import State


class Indicator(NamedTuple):
    """The three terms, each in [0, 1], and their mean."""

    extremes: float
    youth: float
    performance: float

    @property
    def value(self) -> float:
        return (self.extremes + self.youth + self.performance) / 3


def indicator(z: Tensor, number: int, a: float, b: float, c: float) -> Indicator:
    """``⅓ [share with z < −c + share with z > c] + ⅓ exp(−number / a) + ⅓ exp(−b · mean z)``.

    Args:
        z: each task's latest performance, standardized by its own history, ``[T]``.
        number: of the round.

    The last term is capped at 1, which matters where tasks are below their own mean, so that the whole stays in [0, 1].
    """
    extremes = ((z < -c).sum() + (z > c).sum()) / len(z)
    return Indicator(
        float(extremes), math.exp(-number / a), min(1.0, math.exp(-b * float(z.mean())))
    )


def moments(num_tasks: int) -> State:
    """Running moments of each task's performance before the first round."""
    zeros = torch.zeros(num_tasks, dtype=torch.float64)
    return {"count": torch.zeros((), dtype=torch.float64), "mean": zeros, "sum_sq": zeros.clone()}


def standardized(state: State, value: Tensor) -> Tensor:
    """``value`` ``[T]`` by the moments of the rounds before; 0 where a task has no spread yet."""
    spread = (state["sum_sq"] / (state["count"] - 1).clamp(min=1)).sqrt()
    known = (state["count"] > 1) & (spread > 1e-12)
    return torch.where(known, (value - state["mean"]) / torch.where(known, spread, 1.0), 0.0)


def observe(state: State, value: Tensor) -> State:
    """Moments with ``value`` counted (Welford 1962)."""
    count = state["count"] + 1
    delta = value - state["mean"]
    mean = state["mean"] + delta / count
    return {"count": count, "mean": mean, "sum_sq": state["sum_sq"] + delta * (value - mean)}
