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
)
from mtrl.agents.aggregators.epochs import EPOCH_STATE, epoch_mean
from mtrl.agents.aggregators.linalg import eigh, matvec

Scale = Literal["min", "median", "rmse"]


@dataclass(frozen=True)
class AlignedMTL(Aggregator):
    """``w = √σ V Λ^(−1/2) Vᵀ (1/m)`` on the numerical range of ``G = VΛVᵀ`` (eigenvalues above ``m · eps · λ_max``)."""

    scale: Scale = "min"
    """Σ, the smallest, (lower) median or mean eigenvalue of the range."""

    info = AggregatorInfo(
        "aligned-mtl", frozenset({"gramian"}), "Senushkin et al. 2023 (arXiv 2305.19000), alg. 1"
    )

    def __post_init__(self) -> None:
        check_types(self)

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        return exact(align(given(inputs.gramian), self.scale, eps))


@dataclass(frozen=True)
class EGA(Aggregator):
    """Aligned-MTL weights times ``m · softmax((epoch loss / best epoch loss) / T)``."""

    temperature: float = 1.0
    """T."""
    period: int = 1000
    """Updates in an epoch."""
    warmup: int = 4
    """Epochs during which the second factor is 1."""
    scale: Scale = "min"
    """As in ``AlignedMTL``."""

    layout: ClassVar = {**EPOCH_STATE, "best": ("m", torch.inf), "balance": ("m", 1.0)}
    info = AggregatorInfo(
        "ega", frozenset({"gramian", "losses"}), "radarODE-MTL (arXiv 2410.08656)", True
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
        best = torch.where(ended, torch.minimum(state["best"], mean), state["best"])
        ratio = mean.clamp(min=1e-30) / best.clamp(min=1e-30)
        # Before the first epoch ends there is no best loss, and ``best`` is infinite.
        known = torch.where(best < torch.inf, ratio, 1.0)
        balance = mean.shape[-1] * (known / self.temperature).softmax(-1)
        warm = (epochs["epochs"] >= self.warmup).unsqueeze(-1)
        balance = torch.where(ended & warm, balance, state["balance"])
        weights = align(given(inputs.gramian), self.scale, eps) * balance
        return exact(weights, epochs | {"best": best, "balance": balance})


def align(gramian: Tensor, scale: Scale, eps: float) -> Tensor:
    """Aligned-MTL's weights for equal preferences; those of the mean if the Gramian is zero."""
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
    mean = torch.full_like(values, 1 / m)
    of_vectors = inverse * matvec(vectors.mT, mean)
    aligned = chosen.clamp(min=0).sqrt() * matvec(vectors, of_vectors)
    return torch.where(rank > 0, aligned, mean)
