"""Loss-only rules that compare a loss with its past, or with success: DWA, IGB v1, LBTW, success-focal, FAMO."""

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
from mtrl.agents.aggregators.epochs import EPOCH_STATE, epoch_mean
from mtrl.agents.aggregators.linalg import or_one

# Smallest denominator of a ratio of losses.
TINY = 1e-8


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    quotient = numerator.clamp(min=0) / denominator.clamp(min=TINY)
    return quotient.clamp(max=1e12)


@dataclass(frozen=True)
class DWA(Aggregator):
    """``w = m · softmax((mean loss of the last epoch / of the one before) / T)``; 1 during the first two epochs."""

    temperature: float = 2.0
    """T."""
    period: int = 1000
    """Updates in an epoch."""

    layout: ClassVar = {**EPOCH_STATE, "last": ("m", 0.0), "weights": ("m", 1.0)}
    info = AggregatorInfo(
        "dwa", frozenset({"losses"}), "Liu et al. 2019 (arXiv 1803.10704), eq. 7", True
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(
            self.temperature > 0,
            "temperature",
            self.temperature,
            "above 0",
        )
        check(
            self.period >= 1,
            "period",
            self.period,
            "at least 1",
        )

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        mean, ended, epochs = epoch_mean(given(inputs.losses), state, self.period)
        rate = _ratio(mean, state["last"])
        fresh = mean.shape[-1] * (rate / self.temperature).softmax(-1)
        known = (state["epochs"] > 0).unsqueeze(-1)
        new = {
            "last": torch.where(ended, mean, state["last"]),
            "weights": torch.where(ended & known, fresh, state["weights"]),
        }
        return exact(state["weights"], epochs | new)


@dataclass(frozen=True)
class IGBv1(Aggregator):
    """``w = m · softmax(L / L_base)``, L_base the mean of the first epoch, during which the weights are 1."""

    period: int = 1000
    """Updates in an epoch."""

    layout: ClassVar = {**EPOCH_STATE, "base": ("m", 0.0)}
    info = AggregatorInfo(
        "igb-v1", frozenset({"losses"}), "Dai et al. 2023 (arXiv 2307.15429)", True
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(
            self.period >= 1,
            "period",
            self.period,
            "at least 1",
        )

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        losses = given(inputs.losses)
        mean, ended, epochs = epoch_mean(losses, state, self.period)
        first = (state["epochs"] < 1).unsqueeze(-1)
        weights = losses.shape[-1] * _ratio(losses, state["base"]).softmax(-1)
        base = torch.where(ended & first, mean, state["base"])
        return exact(torch.where(first, 1.0, weights), epochs | {"base": base})


@dataclass(frozen=True)
class LBTW(Aggregator):
    """``w = (L / L0)^power``, clipped; L0 is the first loss."""

    power: float = 0.5
    """Exponent."""
    low: float = 0.5
    """Smallest weight."""
    high: float = 1.5
    """Largest weight."""

    layout: ClassVar = {"first_losses": ("m", 0.0)}
    info = AggregatorInfo(
        "lbtw",
        frozenset({"losses"}),
        "Liu et al. 2019 (AAAI), LBTW",
        True,
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(
            0 < self.low <= self.high,
            "low",
            self.low,
            f"above 0 and at most high={self.high}",
        )

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        losses = given(inputs.losses)
        stored = state["first_losses"]
        first = torch.where(stored > 0, stored, losses.clamp(min=TINY))
        weights = (losses.clamp(min=TINY) / first) ** self.power
        return exact(weights.clamp(self.low, self.high), {"first_losses": first})


@dataclass(frozen=True)
class SuccessFocal(Aggregator):
    """``w ∝ (1 − success)^γ``, ``Σ w = 1``; the mean where every task is solved."""

    gamma: float = 1.0
    """0 is the mean; larger looks at the unsolved tasks only."""

    info = AggregatorInfo(
        "success-focal",
        frozenset({"success"}),
        "focal weighting (Lin et al. 2017) of success rates",
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(self.gamma >= 0, "gamma", self.gamma, "at least 0")

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        failure = (1 - given(inputs.success)).clamp(0, 1) ** self.gamma
        total = failure.sum(-1, keepdim=True)
        share = failure / or_one(total)
        return exact(torch.where(total > 0, share, 1 / failure.shape[-1]))


@dataclass(frozen=True)
class FAMO(Aggregator):
    """``w_i ∝ softmax(ξ)_i / L_i``, ``Σ w = 1``; ξ follows (Adam) the decrease of the log losses it brought.

    The paper evaluates the losses of the same batch again after the step; here the next update's losses stand in, which
    saves that forward pass.
    """

    lr: float = 0.025
    """Step size of ξ."""
    decay: float = 1e-3
    """Weight decay γ of ξ."""

    layout: ClassVar = {
        "logits": ("m", 0.0),
        "previous": ("m", 0.0),
        "moment": ("m", 0.0),
        "second": ("m", 0.0),
        "count": ("", 0.0),
    }
    info = AggregatorInfo(
        "famo", frozenset({"losses"}), "Liu et al. 2023 (arXiv 2306.03792), algorithm 1", True
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(self.lr >= 0, "lr", self.lr, "at least 0")
        check(self.decay >= 0, "decay", self.decay, "at least 0")

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        losses = given(inputs.losses).clamp(min=TINY)
        previous = state["previous"]
        logits = state["logits"]
        # The first update has no losses to compare with.
        started = (previous > 0).all(-1, keepdim=True)
        share = logits.softmax(-1)
        decrease = previous.clamp(min=TINY).log() - losses.log()
        drop = torch.where(started, decrease, 0.0)
        mean_drop = (share * drop).sum(-1, keepdim=True)
        slope = share * (drop - mean_drop) + self.decay * logits
        count = state["count"] + started.squeeze(-1)
        moment = torch.lerp(state["moment"], slope, 0.1)
        second = torch.lerp(state["second"], slope**2, 0.001)
        n = count.clamp(min=1).unsqueeze(-1)
        mean = moment / (1 - 0.9**n)
        root = (second / (1 - 0.999**n)).sqrt()
        move = mean / (root + 1e-8)
        logits = torch.where(started, logits - self.lr * move, logits)
        raw = logits.softmax(-1) / losses
        new = {
            "logits": logits,
            "previous": losses,
            "moment": moment,
            "second": second,
            "count": count,
        }
        return exact(raw / raw.sum(-1, keepdim=True), new)
