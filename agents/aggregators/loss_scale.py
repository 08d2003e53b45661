"""Loss-only rules that even out the scales of the losses: uncertainty, IMTL-L, GLS, smooth Tchebycheff."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtrl.agents.aggregators.base import (
    Aggregator,
    AggregatorInfo,
    Inputs,
    Solution,
    State,
    check,
    check_types,
    exact,
    given,
)

# Log-scales are kept in [−BOUND, BOUND]; one that reaches it has no optimum there and counts as not converged.
BOUND = 12.0


@dataclass(frozen=True)
class UncertaintyWeighting(Aggregator):
    """``Σ ½ e^(−s) L + ½ s`` with s learned by gradient descent: ``w = ½ e^(−s)``."""

    lr: float = 1e-3
    """Step size of s."""

    layout: ClassVar = {"s": ("m", 0.0)}
    info = AggregatorInfo(
        "uncertainty",
        frozenset({"losses"}),
        "Kendall et al. 2018 (arXiv 1705.07115), eq. 7",
        needs_positive_loss=True,
        shares="losses",
        sums=True,
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(self.lr > 0, "lr", self.lr, "above 0")

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        weights = 0.5 * (-state["s"]).exp()
        slope = 0.5 - weights * given(inputs.losses)
        return _with_log_scales(weights, state["s"] - self.lr * slope)


@dataclass(frozen=True)
class IMTLL(Aggregator):
    """``Σ e^s L − s`` with s learned by gradient descent, which drives every ``e^s L`` to 1: ``w = e^s``."""

    lr: float = 1e-3
    """Step size of s."""

    layout: ClassVar = {"s": ("m", 0.0)}
    info = AggregatorInfo(
        "imtl-l",
        frozenset({"losses"}),
        "Liu et al. 2021 (Impartial MTL, ICLR)",
        needs_positive_loss=True,
        shares="losses",
        sums=True,
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(self.lr > 0, "lr", self.lr, "above 0")

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        weights = state["s"].exp()
        slope = weights * given(inputs.losses) - 1
        return _with_log_scales(weights, state["s"] - self.lr * slope)


def _with_log_scales(weights: Tensor, s: Tensor) -> Solution:
    s = s.clamp(-BOUND, BOUND)
    converged = (s.abs() < BOUND).all(-1)
    return exact(weights, {"s": s})._replace(converged=converged)


@dataclass(frozen=True)
class GLS(Aggregator):
    """Gradient of the geometric mean of the losses: ``w_i = (Π L)^(1/m) / (m L_i)``."""

    floor: float = 1e-8
    """Losses count as at least this; one below zero does so too and is reported as not converged."""

    info = AggregatorInfo(
        "gls",
        frozenset({"losses"}),
        "Chennupati et al. 2019 (arXiv 1904.08492)",
        needs_positive_loss=True,
        shares="losses",
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(self.floor > 0, "floor", self.floor, "above 0")

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        logs = given(inputs.losses).clamp(min=self.floor).log()
        mean = logs.mean(-1, keepdim=True)
        return exact((mean - logs).exp() / logs.shape[-1])


@dataclass(frozen=True)
class SmoothTchebycheff(Aggregator):
    """Gradient of ``μ log Σ exp((L_i − z)/(m μ))``: ``w = softmax((L − z)/(m μ)) / m``. No sign is excluded."""

    mu: float = 1.0
    """Smoothing; towards 0 only the largest loss counts."""
    track: bool = False
    """Z is the smallest loss each task has had; otherwise 0 (the same z for all tasks changes nothing)."""

    layout: ClassVar = {"lowest": ("m", torch.inf)}
    info = AggregatorInfo(
        "smooth-tchebycheff",
        frozenset({"losses"}),
        "Lin et al. 2024 (arXiv 2402.19078)",
        shares="losses",
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(self.mu > 0, "mu", self.mu, "above 0")

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        losses = given(inputs.losses)
        m = losses.shape[-1]
        lowest = torch.minimum(losses, state["lowest"])
        shifted = losses - lowest if self.track else losses
        return exact((shifted / (m * self.mu)).softmax(-1) / m, {"lowest": lowest})
