"""Features of rows that repeat: written out for every observation, or read by heads where they stand; for a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mtrl.agents.networks.seen import arrays_of


class Spread(torch.autograd.Function):
    """Rows ``inverse`` ``[n]`` of ``[K, r, W]`` as ``[K, n, W]``; gradients of repeated rows are summed."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        ctx.shape = rows.shape
        return rows.index_select(1, inverse)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from mtrl.agents.networks.row_kernels import sum_rows

        (inverse,) = ctx.saved_tensors
        grad = grads[0].contiguous()
        out = torch.zeros(ctx.shape)
        sum_rows(grad.numpy(), inverse.numpy(), out.numpy())
        return out, None


class SpreadHeads(torch.autograd.Function):
    """``Spread`` followed by linear heads, without writing the repeated rows.

    Inputs: ``rows`` ``[K, r, W]``, ``inverse`` ``[T, b]``, weights ``[K, H, out, W]`` and biases ``[K, H, out]`` of one
    head a task or one for all. Output: ``[K, T, b, out]``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        inverse: Tensor,
        weight: Tensor,
        bias: Tensor,
    ) -> Tensor:
        # The kernels take contiguous arrays only.
        rows = rows.contiguous()
        weight = weight.contiguous()
        ctx.save_for_backward(rows, inverse, weight)
        return spread_heads(rows, inverse, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from mtrl.agents.networks.row_kernels import heads_backward

        rows, inverse, weight = ctx.saved_tensors
        to_rows = torch.zeros(rows.shape)
        to_weight = torch.zeros(weight.shape)
        to_bias = torch.zeros(weight.shape[:3])
        heads_backward(
            *arrays_of(rows, inverse, weight, grads[0].contiguous()),
            tuple(arrays_of(to_rows, to_weight, to_bias)),
        )
        return to_rows, None, to_weight, to_bias


def spread_heads(
    rows: Tensor,
    inverse: Tensor,
    weight: Tensor,
    bias: Tensor,
) -> Tensor:
    """``SpreadHeads`` where no gradients are asked for."""
    from mtrl.agents.networks.row_kernels import apply_heads

    out = torch.empty(len(rows), *inverse.shape, weight.shape[2])
    apply_heads(
        *arrays_of(
            rows.contiguous(),
            inverse,
            weight.contiguous(),
            bias.contiguous(),
            out,
        )
    )
    return out
