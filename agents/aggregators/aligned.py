"""Aligned-MTL: the gradients' principal components brought to one length; EGA: the same, times a loss balance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

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
    parse_preference,
    preferences_of,
)
from mtrl.agents.aggregators.epochs import EPOCH_STATE, epoch_mean, loss_ratio
from mtrl.agents.aggregators.linalg import eigh, matvec

Scale = Literal["min", "median", "rmse"]


@dataclass(frozen=True)
class AlignedMTL(Aggregator):
    """``w = √σ V Λ^(−1/2) Vᵀ p`` on the numerical range of ``G = VΛVᵀ`` (eigenvalues above ``m · eps · λ_max``).

    p is the preferences, of sum 1: 1/m each unless a setting or a curriculum says otherwise.
    """

    scale: Scale = "min"
    """Σ, the smallest, (lower) median or mean eigenvalue of the range."""
    preference: str = ""
    """What tasks count, as in reach-v3:2/push-v3:1; 1 for those that are not named."""

    info = AggregatorInfo(
        "aligned-mtl",
        frozenset({"gramian"}),
        "Senushkin et al. 2023 (arXiv 2305.19000), alg. 1",
        shares="preferences",
    )

    def __post_init__(self) -> None:
        check_types(self)
        parse_preference(self.preference)

    def preference_text(self) -> str:
        return self.preference

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        gramian = given(inputs.gramian)
        preferences = preferences_of(inputs, gramian[..., 0])
        return exact(align(gramian, self.scale, eps, preferences))


@dataclass(frozen=True)
class EGA(Aggregator):
    """Aligned-MTL weights times ``m · softmax((epoch loss / nadir) / T)``.

    The nadir is the mean loss of the one epoch after the warm-up and stays fixed. Until the epoch after it ends, the
    second factor is 1.
    """

    temperature: float = 1.0
    """T."""
    period: int = 100
    """Updates in an epoch."""
    warmup: int = 4
    """Epochs before the one that sets the nadir."""
    scale: Scale = "min"
    """As in ``AlignedMTL``."""

    layout: ClassVar = {**EPOCH_STATE, "nadir": ("m", 0.0), "balance": ("m", 1.0)}

    @property
    def info(self) -> AggregatorInfo:
        needs = frozenset({"gramian", "losses"})
        source = "radarODE-MTL (arXiv 2410.08656)"
        return AggregatorInfo(
            "ega",
            needs,
            source,
            needs_positive_loss=True,
            shares="preferences",
            warmup=(self.warmup + 2) * self.period,
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
        check(
            self.warmup >= 0,
            "warmup",
            self.warmup,
            "at least 0",
        )

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        mean, ended, epochs = epoch_mean(given(inputs.losses), state, self.period)
        finished = epochs["epochs"].unsqueeze(-1)
        sets_nadir = ended & (finished == self.warmup + 1)
        nadir = torch.where(sets_nadir, mean, state["nadir"])
        progress = loss_ratio(mean, nadir) / self.temperature
        measured = ended & (finished > self.warmup + 1)
        fresh = mean.shape[-1] * progress.softmax(-1)
        balance = torch.where(measured, fresh, state["balance"])
        gramian = given(inputs.gramian)
        preferences = preferences_of(inputs, gramian[..., 0])
        weights = align(gramian, self.scale, eps, preferences) * balance
        return exact(weights, epochs | {"nadir": nadir, "balance": balance})


def align(gramian: Tensor, scale: Scale, eps: float, preferences: Tensor) -> Tensor:
    """Aligned-MTL's weights for ``preferences`` ``[..., m]``, which are the weights if the Gramian is zero."""
    values, vectors = eigh(gramian)
    m = values.shape[-1]
    keep = (values > values[..., -1:] * m * eps) & (values > 0)
    rank = keep.sum(-1, keepdim=True)
    safe = torch.where(keep, values, 1.0)
    inverse = torch.where(keep, safe.rsqrt(), 0.0)
    if scale == "rmse":
        chosen = (values * keep).sum(-1, keepdim=True) / rank.clamp(min=1)
    else:
        # Eigenvalues ascend, so the kept ones are the last ``rank``.
        skip = (rank - 1) // 2 if scale == "median" else torch.zeros_like(rank)
        index = (m - rank + skip).clamp(max=m - 1)
        chosen = values.gather(-1, index)
    of_vectors = inverse * matvec(vectors.mT, preferences)
    aligned = chosen.clamp(min=0).sqrt() * matvec(vectors, of_vectors)
    return torch.where(rank > 0, aligned, preferences)
