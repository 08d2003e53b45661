"""A linear layer and ReLU over one-hot codes by lookup, in operations that a GPU has (``encode`` is for CPUs)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class LookupReLU(torch.autograd.Function):
    """``ReLU(W c + b)`` where ``c`` is the concatenation of ``n`` codes out of a table.

    Inputs: ``ids`` int ``[S, T, rows, n]``, rows of ``codes`` ``[C, c]``; a weight ``[K, out, n c]`` and a bias
    ``[K, out]``, or both expanded over tasks, whose gradients then come out per task (``ReLUTrunk`` has the same
    convention; consecutive members share an input). Output: ``[K, T, rows, out]`` float32.

    Forward, a product of all codes with the weight is small; its rows are gathered and summed in float32. Backward, the
    codes are written out, since one matrix product is faster than scattering.
    """

    @staticmethod
    def forward(ctx: Any, ids: Tensor, codes: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        shared, shift = (weight, bias) if weight.dim() == 3 else (weight[:, 0], bias[:, 0])
        seeds, tasks, rows, count = ids.shape
        members, out = shared.shape[:2]
        table = torch.einsum(
            "cv,konv->kcno", codes.float(), shared.float().unflatten(2, (count, -1))
        )
        index = ids.reshape(seeds, -1, count) * count + torch.arange(
            count, dtype=ids.dtype, device=ids.device
        )
        index = index.repeat_interleave(members // seeds, 0) if members > seeds else index
        first = torch.arange(members, dtype=ids.dtype, device=ids.device) * (len(codes) * count)
        bags = (index + first[:, None, None]).flatten(0, 1)
        summed = torch.nn.functional.embedding_bag(bags, table.reshape(-1, out), mode="sum")
        hidden = summed.view(members, -1, out).add_(shift.float().unsqueeze(1)).relu_()
        ctx.save_for_backward(ids, codes, hidden)
        ctx.shapes = weight.shape, bias.shape
        return hidden.view(members, tasks, rows, out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        ids, codes, hidden = ctx.saved_tensors
        weight_shape, bias_shape = ctx.shapes
        members, groups = hidden.shape[0], weight_shape[1] if len(weight_shape) == 4 else 1
        delta = torch.ops.aten.threshold_backward(grads[0].reshape_as(hidden), hidden, 0)
        delta = delta.view(members * groups, -1, hidden.shape[-1]).to(codes.dtype)
        inputs = codes.index_select(0, ids.flatten()).view(
            ids.shape[0], groups, -1, ids.shape[-1] * codes.shape[-1]
        )
        inputs = inputs.repeat_interleave(members // ids.shape[0], 0).flatten(0, 1)
        grad_weight = torch.bmm(delta.transpose(1, 2), inputs).view(weight_shape)
        return None, None, grad_weight, delta.sum(1).view(bias_shape)
