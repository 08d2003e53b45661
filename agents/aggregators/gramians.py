"""Gramians of task gradients, and their weighted sums, in at least float32."""

from __future__ import annotations

import torch
from torch import Tensor


def gramian(jacobian: Tensor) -> Tensor:
    """``J Jᵀ``, ``[..., m, P] → [..., m, m]``, in float32 (float64 for float64 rows) whatever the rows' type."""
    rows = _wide(jacobian)
    return rows @ rows.mT


def combine(jacobian: Tensor, weights: Tensor) -> Tensor:
    """``Jᵀ w``, ``[..., m, P], [..., m] → [..., P]``, in the wider of the two types."""
    # Products of bfloat16 rows with float32 weights are taken in float32.
    dtype = torch.promote_types(jacobian.dtype, weights.dtype)
    row = weights.to(dtype).unsqueeze(-2)
    product = row @ jacobian.to(dtype)
    return product.squeeze(-2)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
