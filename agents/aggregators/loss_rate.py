"""Loss-only rules that compare a loss with its past, or with success: DWA, IGB v1, LBTW, success-focal, FAMO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

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
from mtrl.agents.aggregators.epochs import EPOCH_STATE, TINY, epoch_mean, loss_ratio
from mtrl.agents.aggregators.linalg import or_one


@dataclass(frozen=True)
class DWA(Aggregator):
    """``w = m · softmax((mean loss of the last epoch / of the one before) / T)``; 1 during the first two epochs."""

    temperature: float = 2.0
    """T."""
    period: int = 100
    """Updates in an epoch."""

    layout: ClassVar = {**EPOCH_STATE, "last": ("m", 0.0), "weights": ("m", 1.0)}

    @property
    def info(self) -> AggregatorInfo:
        return AggregatorInfo(
            "dwa",
            frozenset({"losses"}),
            "Liu et al. 2019 (arXiv 1803.10704), eq. 7",
            needs_positive_loss=True,
            shares="losses",
            sums=True,
            warmup=2 * self.period,
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
        rate = loss_ratio(mean, state["last"])
        fresh = mean.shape[-1] * (rate / self.temperature).softmax(-1)
        known = (state["epochs"] > 0).unsqueeze(-1)
        new = {
            "last": torch.where(ended, mean, state["last"]),
            "weights": torch.where(ended & known, fresh, state["weights"]),
        }
        return exact(state["weights"], epochs | new)


@dataclass(frozen=True)
class IGBv1(Aggregator):
    """``Σ m · softmax(L / L_base) log L``: the gradient of each loss is weighted by ``m · softmax(L / L_base) / L``.

    L_base is the mean loss of one early epoch. Until that epoch ends, the weight of each log loss is 1.
    """

    period: int = 100
    """Updates in an epoch."""
    base_epoch: int = 1
    """The epoch whose mean loss is L_base, counted from 1."""

    layout: ClassVar = {**EPOCH_STATE, "base": ("m", 0.0)}

    @property
    def info(self) -> AggregatorInfo:
        return AggregatorInfo(
            "igb-v1",
            frozenset({"losses"}),
            "Dai et al. 2023 (arXiv 2307.15429)",
            needs_positive_loss=True,
            shares="losses",
            sums=True,
            warmup=self.base_epoch * self.period,
        )

    def __post_init__(self) -> None:
        check_types(self)
        check(
            self.period >= 1,
            "period",
            self.period,
            "at least 1",
        )
        check(
            self.base_epoch >= 1,
            "base_epoch",
            self.base_epoch,
            "at least 1",
        )

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        losses = given(inputs.losses)
        mean, ended, epochs = epoch_mean(losses, state, self.period)
        finished = epochs["epochs"].unsqueeze(-1)
        base = torch.where(ended & (finished == self.base_epoch), mean, state["base"])
        early = (state["epochs"] < self.base_epoch).unsqueeze(-1)
        fresh = losses.shape[-1] * loss_ratio(losses, state["base"]).softmax(-1)
        of_logs = torch.where(early, 1.0, fresh)
        # d log L = dL / L
        weights = of_logs / losses.clamp(min=TINY)
        return exact(weights, epochs | {"base": base})


@dataclass(frozen=True)
class LBTW(Aggregator):
    """``w = (L / L0)^power``, clipped; L0 is the first loss of each period."""

    power: float = 0.5
    """Exponent."""
    low: float = 0.5
    """Smallest weight."""
    high: float = 1.5
    """Largest weight."""
    period: int = 100
    """Updates after which L0 is taken anew. Losses that fall for good would else keep every weight at its least."""

    layout: ClassVar = {"first_losses": ("m", 0.0), "count": ("", 0.0)}
    info = AggregatorInfo(
        "lbtw",
        frozenset({"losses"}),
        "Liu et al. 2019 (AAAI), LBTW",
        needs_positive_loss=True,
        shares="losses",
        sums=True,
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(
            0 < self.low <= self.high,
            "low",
            self.low,
            f"above 0 and at most high={self.high}",
        )
        check(
            self.period >= 1,
            "period",
            self.period,
            "at least 1",
        )

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        losses = given(inputs.losses).clamp(min=TINY)
        begins = (state["count"] == 0).unsqueeze(-1)
        first = torch.where(begins, losses, state["first_losses"])
        weights = (losses / first) ** self.power
        new = {
            "first_losses": first,
            "count": (state["count"] + 1) % self.period,
        }
        return exact(weights.clamp(self.low, self.high), new)


@dataclass(frozen=True)
class SuccessFocal(Aggregator):
    """``w ∝ (1 − success)^γ``, ``Σ w = 1``; the mean where every task is solved."""

    gamma: float = 1.0
    """0 is the mean; larger looks at the unsolved tasks only."""

    info = AggregatorInfo(
        "success-focal",
        frozenset({"success"}),
        "focal weighting (Lin et al. 2017) of success rates",
        shares="losses",
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
        "famo",
        frozenset({"losses"}),
        "Liu et al. 2023 (arXiv 2306.03792), algorithm 1",
        needs_positive_loss=True,
        shares="losses",
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
