"""What the Gramian says about a set of task gradients. Pure functions over leading dimensions."""

from __future__ import annotations

import torch
from torch import Tensor

from mtrl.agents.aggregators.linalg import correlation, diagonal, eigh, matvec


def cosines(gramian: Tensor) -> Tensor:
    """Cosine of every pair, ``[..., m, m]``; 0 where a gradient is zero, 1 on the diagonal of the others."""
    cosine, _, active = correlation(gramian.double())
    return cosine * (active.unsqueeze(-1) & active.unsqueeze(-2))


def conflict_rate(gramian: Tensor) -> Tensor:
    """Share of the pairs of different tasks whose gradients have a negative product, ``[...]``; 0 for one task."""
    pairs = max(gramian.shape[-1] * (gramian.shape[-1] - 1), 1)
    return (gramian < 0).sum((-1, -2)).double() / pairs


def magnitude_similarity(gramian: Tensor) -> Tensor:
    """Mean over pairs of ``2‖g_i‖‖g_j‖/(‖g_i‖² + ‖g_j‖²)``, ``[...]`` in [0, 1]; 1 for one task (Yu et al. 2020)."""
    squared = diagonal(gramian.double()).clamp(min=0)
    largest = squared.amax(-1, keepdim=True)
    squared = squared / torch.where(largest > 0, largest, 1.0)
    a, b = squared.unsqueeze(-1), squared.unsqueeze(-2)
    pairs = torch.where(a + b > 0, 2 * (a * b).sqrt() / torch.where(a + b > 0, a + b, 1.0), 1.0)
    m = gramian.shape[-1]
    off = pairs.sum((-1, -2)) - diagonal(pairs).sum(-1)
    return off / (m * (m - 1)) if m > 1 else torch.ones_like(off)


def condition_number(gramian: Tensor) -> Tensor:
    """``σ_max / σ_min`` of the Jacobian, ``[...]``; infinite if the Gramian is singular to working precision."""
    values, _ = eigh(gramian.double())
    low, high = values[..., 0], values[..., -1]
    regular = low > high * gramian.shape[-1] * torch.finfo(gramian.dtype).eps
    return torch.where(regular, (high / torch.where(regular, low, 1.0)).sqrt(), torch.inf)


def task_gains(gramian: Tensor, weights: Tensor) -> Tensor:
    """First-order decrease of each loss per unit step, ``g_i · Jᵀw / ‖g_i‖``, ``[..., m]``; 0 for zero gradients."""
    norms = diagonal(gramian.double()).clamp(min=0).sqrt()
    gains = matvec(gramian.double(), weights.double())
    return torch.where(norms > 0, gains / torch.where(norms > 0, norms, 1.0), 0.0)
