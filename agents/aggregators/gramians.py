"""Per-task gradients of linear layers at about the price of one backward pass, and their Gramian.

With a task-major batch the loss of task i touches only its own rows. One backward pass of the summed losses therefore
yields, at every linear layer, the layer's inputs and the gradients of its outputs; these determine every task's
gradient.
"""

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


def linear_task_gradients(inputs: Tensor, output_grads: Tensor) -> tuple[Tensor, Tensor]:
    """Each task's gradient of ``y = x Wᵀ + b``.

    Args:
        inputs: x ``[..., m, b, in]``.
        output_grads: ``∂(Σ_i L_i)/∂y``, ``[..., m, b, out]``.

    Returns:
        ``∂L_i/∂W`` ``[..., m, out, in]`` and ``∂L_i/∂b`` ``[..., m, out]``, at least float32.
    """
    x = _wide(inputs)
    delta = _wide(output_grads)
    return delta.mT @ x, delta.sum(-2)


def linear_gramian(inputs: Tensor, output_grads: Tensor, bias: bool = True) -> Tensor:
    """The layer's share of the Gramian, ``[..., m, m]``; shapes as in ``linear_task_gradients``.

    The cheaper of two equal forms, by operation count: products of the ``[out, in]`` gradients, or
    ``Σ_rows (δ_s·δ_t)(x_s·x_t + 1)``, which never forms them.
    """
    m, rows, width = inputs.shape[-3:]
    height = output_grads.shape[-1]
    # Operations: forming and multiplying the gradients, against products of all pairs of rows.
    formed = m * (rows + m) * width * height
    by_rows = (m * rows) ** 2 * (width + height)
    if formed <= by_rows:
        weight, offset = linear_task_gradients(inputs, output_grads)
        share = gramian(weight.flatten(-2))
        return share + gramian(offset) if bias else share
    x = _wide(inputs).flatten(-3, -2)
    delta = _wide(output_grads).flatten(-3, -2)
    of_bias = 1.0 if bias else 0.0
    pairs = (delta @ delta.mT) * (x @ x.mT + of_bias)
    by_task = pairs.unflatten(-1, (m, rows)).unflatten(-3, (m, rows))
    return by_task.sum((-1, -3))


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
