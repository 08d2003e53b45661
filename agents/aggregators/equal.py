"""IMTL-G and ConFIG: the one direction with the same projection on every unit gradient, at two lengths."""

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
    given,
)
from mtrl.agents.aggregators.linalg import correlation, diagonal, matvec, pinv_apply, ratio


@dataclass(frozen=True)
class IMTLG(Aggregator):
    """``w ∝ G⁺ √diag(G)``, ``Σ w = 1``: equal projections.

    Computed as ``C⁺1`` over the norms with C the Gramian of the unit gradients, which is the same where G is regular
    and stays accurate when the norms differ by orders of magnitude. The sum divided by can be negative, and the update
    then ascends: that is the published rule. Where it vanishes no such weights exist: the update is zero and not
    converged.
    """

    info = AggregatorInfo(
        "imtl-g",
        frozenset({"gramian"}),
        "Liu et al. 2021 (Impartial MTL, ICLR)",
        shares="groups",
    )

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        gramian = given(inputs.gramian)
        weights, residual = _equal(gramian, eps)
        total = weights.sum(-1, keepdim=True)
        fine = total.abs() > 1e-9 * weights.abs().sum(-1, keepdim=True)
        normalized = weights / torch.where(fine, total, 1.0)
        weights = torch.where(fine, normalized, 0.0)
        return _with_mean_at_zero(
            gramian,
            weights,
            residual,
            fine.squeeze(-1),
        )


@dataclass(frozen=True)
class ConFIG(Aggregator):
    """``w_i ∝ (C⁺1)_i / ‖g_i‖``, with length ``Σ g_i · d/‖d‖``."""

    info = AggregatorInfo(
        "config",
        frozenset({"gramian"}),
        "Liu et al. 2024 (arXiv 2408.11104)",
        shares="groups",
        sums=True,
    )

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        gramian = given(inputs.gramian)
        weights, residual = _equal(gramian, eps)
        # Σ g_i·u / ‖u‖ over ‖u‖, with the weights at unit size so that nothing overflows.
        slope = matvec(gramian, weights)
        squared = (weights * slope).sum(-1, keepdim=True)
        fine = squared > 0
        projections = slope.sum(-1, keepdim=True)
        weights = weights * ratio(projections, squared)
        return _with_mean_at_zero(
            gramian,
            weights,
            residual,
            fine.squeeze(-1),
        )


def _equal(gramian: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """``C⁺1`` over the norms (zero gradients: 0), and how unequal the projections on unit gradients are."""
    cosine, norms, active = correlation(gramian)
    ones = active.to(gramian.dtype)
    solved, _ = pinv_apply(cosine, ones, eps)
    beta = torch.where(active, solved, 0.0)
    error = (matvec(cosine, beta) - ones).abs()
    residual = error.masked_fill(~active, 0.0).amax(-1)
    # In units of the shortest norm, so that no weight exceeds that of the unit gradients.
    shortest = torch.where(active, norms, torch.inf).amin(-1, keepdim=True)
    inverse = torch.where(active, shortest / norms, 0.0)
    return beta * inverse, residual


def _with_mean_at_zero(
    gramian: Tensor, weights: Tensor, residual: Tensor, fine: Tensor
) -> Solution:
    """Replace the weights by those of the mean where all gradients are zero."""
    none = ~(diagonal(gramian) > 0).any(-1)
    weights = torch.where(none.unsqueeze(-1), 1 / gramian.shape[-1], weights)
    converged = none | (fine & (residual < 1e-3))
    return Solution(weights, residual, converged, {})
