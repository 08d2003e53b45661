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


def indicator(
    z: Tensor,
    number: int,
    a: float,
    b: float,
    c: float,
) -> Indicator:
    """``⅓ [share with z < −c + share with z > c] + ⅓ exp(−number / a) + ⅓ exp(−b · mean z)``.

    Args:
        z: each task's latest performance, standardized by its own history, ``[T]``.
        number: of the round.

    The last term is capped at 1, which matters where tasks are below their own mean, so that the whole stays in [0, 1].
    """
    low = (z < -c).sum()
    high = (z > c).sum()
    extremes = (low + high) / len(z)
    youth = math.exp(-number / a)
    performance = math.exp(-b * float(z.mean()))
    # Below their own means, tasks would take the last term above 1.
    return Indicator(float(extremes), youth, min(1.0, performance))


def moments(num_tasks: int) -> State:
    """Running moments of each task's performance before the first round."""
    zeros = torch.zeros(num_tasks, dtype=torch.float64)
    return {
        "count": torch.zeros((), dtype=torch.float64),
        "mean": zeros,
        "sum_sq": zeros.clone(),
    }


def standardized(state: State, value: Tensor) -> Tensor:
    """``value`` ``[T]`` by the moments of the rounds before; 0 where a task has no spread yet."""
    freedom = (state["count"] - 1).clamp(min=1)
    spread = (state["sum_sq"] / freedom).sqrt()
    # Equal values can leave a spread of rounding errors, by which anything would be extreme.
    known = (state["count"] > 1) & (spread > 1e-12)
    z = (value - state["mean"]) / torch.where(known, spread, 1.0)
    return torch.where(known, z, 0.0)


def observe(state: State, value: Tensor) -> State:
    """Moments with ``value`` counted (Welford 1962)."""
    count = state["count"] + 1
    delta = value - state["mean"]
    mean = state["mean"] + delta / count
    return {
        "count": count,
        "mean": mean,
        "sum_sq": state["sum_sq"] + delta * (value - mean),
    }
