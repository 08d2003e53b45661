"""SVD reweighting: tasks count by how much of their gradient lies in the main directions of all gradients."""

from __future__ import annotations

from dataclasses import dataclass

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
from mtrl.agents.aggregators.linalg import correlation, eigh, or_one


@dataclass(frozen=True)
class SVDReweight(Aggregator):
    """``w_i ∝ ‖P_r g_i‖``, ``Σ w = 1``, where P_r projects on the r main directions of the gradients.

    The paper has models of single tasks in the place of gradients. With ``G = VΛVᵀ`` the squared length of a projection
    is ``Σ_{k≤r} λ_k V_ik²``. Of equal eigenvalues at the limit r, each counts by the share of them that still fits, so
    that weights do not depend on which eigenvectors a solver returns. The paper's weights are smoothed over updates by
    ``ema=0.99``.
    """

    rank: int = 0
    """r; 0 is half the tasks, rounded up."""
    unit: bool = True
    """Whether directions are of unit gradients, so that a task counts by how much of it is common and not by its
    size."""

    info = AggregatorInfo(
        "svd-reweight",
        frozenset({"gramian"}),
        "Wu et al. 2020 (arXiv 2005.00944), algorithm 2",
        shares="losses",
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(self.rank >= 0, "rank", self.rank, "at least 0")

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        gramian = given(inputs.gramian)
        m = gramian.shape[-1]
        if self.unit:
            gramian = _of_units(gramian)
        rank = min(self.rank or (m + 1) // 2, m)
        size = projected(gramian, rank, eps).sqrt()
        total = size.sum(-1, keepdim=True)
        return exact(torch.where(total > 0, size / or_one(total), 1 / m))


def _of_units(gramian: Tensor) -> Tensor:
    """Gramian of the unit gradients; those that are zero stay zero."""
    cosine, _, active = correlation(gramian)
    return cosine * (active.unsqueeze(-1) & active.unsqueeze(-2))


def projected(gramian: Tensor, rank: int, eps: float) -> Tensor:
    """Squared lengths ``[..., m]`` of the rows of J in the ``rank`` main directions; ``gramian`` is ``J Jᵀ``."""
    values, vectors = eigh(gramian)
    m = values.shape[-1]
    values = values.clamp(min=0)
    # Eigenvalues ascend, so the last one that counts stands ``rank`` places from the end.
    last = values[..., m - rank].unsqueeze(-1)
    tolerance = values[..., -1:] * m * eps
    above = values > last + tolerance
    tied = (values - last).abs() <= tolerance
    left = rank - above.sum(-1, keepdim=True)
    share = left / tied.sum(-1, keepdim=True)
    counted = values * (above + tied * share)
    parts = vectors.square() * counted.unsqueeze(-2)
    return parts.sum(-1)
