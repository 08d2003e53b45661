"""Conflict, similarity and gain of task gradients, computed from their Gramian over leading dimensions."""

from __future__ import annotations

import torch
from torch import Tensor

from mtrl.agents.aggregators.linalg import correlation, diagonal, eigh, matvec, or_one, ratio


def cosines(gramian: Tensor) -> Tensor:
    """Cosine of every pair, ``[..., m, m]``; 0 where a gradient is zero, 1 on the diagonal of the others."""
    cosine, _, active = correlation(gramian.double())
    # ``correlation`` puts 1 on the diagonal of zero gradients.
    both = active.unsqueeze(-1) & active.unsqueeze(-2)
    return cosine * both


def conflict_rate(gramian: Tensor) -> Tensor:
    """Share of the pairs of different tasks whose gradients have a negative product, ``[...]``; 0 for one task."""
    m = gramian.shape[-1]
    pairs = max(m * (m - 1), 1)
    conflicts = (gramian < 0).sum((-1, -2))
    return conflicts.double() / pairs


def magnitude_similarity(gramian: Tensor) -> Tensor:
    """Mean over pairs of ``2‖g_i‖‖g_j‖/(‖g_i‖² + ‖g_j‖²)``, ``[...]`` in [0, 1]; 1 for one task (Yu et al. 2020)."""
    squared = diagonal(gramian.double()).clamp(min=0)
    largest = squared.amax(-1, keepdim=True)
    # Products of squared norms would overflow or vanish for very long or short gradients.
    squared = squared / or_one(largest)
    a = squared.unsqueeze(-1)
    b = squared.unsqueeze(-2)
    total = a + b
    similarity = 2 * (a * b).sqrt() / or_one(total)
    pairs = torch.where(total > 0, similarity, 1.0)
    m = gramian.shape[-1]
    off = pairs.sum((-1, -2)) - diagonal(pairs).sum(-1)
    if m == 1:
        return torch.ones_like(off)
    return off / (m * (m - 1))


def condition_number(gramian: Tensor) -> Tensor:
    """``σ_max / σ_min`` of the Jacobian, ``[...]``; infinite if the Gramian is singular to working precision."""
    values, _ = eigh(gramian.double())
    low = values[..., 0]
    high = values[..., -1]
    regular = low > high * gramian.shape[-1] * torch.finfo(gramian.dtype).eps
    squared = high / torch.where(regular, low, 1.0)
    return torch.where(regular, squared.sqrt(), torch.inf)


def task_gains(gramian: Tensor, weights: Tensor) -> Tensor:
    """First-order decrease of each loss per unit step, ``g_i · Jᵀw / ‖g_i‖``, ``[..., m]``; 0 for zero gradients."""
    norms = diagonal(gramian.double()).clamp(min=0).sqrt()
    gains = matvec(gramian.double(), weights.double())
    return ratio(gains, norms)
