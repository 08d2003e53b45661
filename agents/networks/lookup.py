"""A linear layer and ReLU over one-hot codes by lookup, in operations that a GPU has (``encode`` is for CPUs)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


class LookupReLU(torch.autograd.Function):
    """``ReLU(W c + b)`` where ``c`` is the concatenation of ``n`` codes out of a table.

    Inputs: ``ids`` int ``[S, T, rows, n]``, rows of ``codes`` ``[C, c]``; a weight ``[K, 1, out, n c]`` and a bias
    ``[K, 1, out]``, or both expanded over tasks, whose gradients then come out per task (``ReLUTrunk`` has the same
    convention; consecutive members share an input). Output: ``[K, T, rows, out]`` float32.

    Forward, the product of all codes with the weight is small; its rows are gathered and summed in float32. Backward,
    the codes are written out, since one matrix product is faster than scattering.
    """

    @staticmethod
    def forward(
        ctx: Any,
        ids: Tensor,
        codes: Tensor,
        weight: Tensor,
        bias: Tensor,
    ) -> Tensor:
        shared = weight[:, 0]
        shift = bias[:, 0]
        seeds, tasks, rows, count = ids.shape
        members, out = shared.shape[:2]
        by_position = shared.float().unflatten(2, (count, -1))
        table = torch.einsum("cv,konv->kcno", codes.float(), by_position)

        # All members' tables lie in one matrix, so every index is shifted to its member's table.
        positions = torch.arange(count, dtype=ids.dtype, device=ids.device)
        index = ids.reshape(seeds, -1, count) * count + positions
        if members > seeds:
            index = index.repeat_interleave(members // seeds, 0)
        first = torch.arange(members, dtype=ids.dtype, device=ids.device)
        first = first * (len(codes) * count)
        bags = (index + first[:, None, None]).flatten(0, 1)
        summed = embedding_bag(bags, table.reshape(-1, out), mode="sum")

        hidden = summed.view(members, -1, out)
        hidden = hidden.add_(shift.float().unsqueeze(1)).relu_()
        ctx.save_for_backward(ids, codes, hidden)
        ctx.shapes = weight.shape, bias.shape
        return hidden.view(members, tasks, rows, out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        ids, codes, hidden = ctx.saved_tensors
        weight_shape, bias_shape = ctx.shapes
        members, _, out = hidden.shape
        seeds = ids.shape[0]
        groups = weight_shape[1]

        grad = grads[0].reshape_as(hidden)
        grad = torch.ops.aten.threshold_backward(grad, hidden, 0)
        delta = grad.view(members * groups, -1, out).to(codes.dtype)

        width = ids.shape[-1] * codes.shape[-1]
        # The codes of every row, side by side: the input that a dense layer would have had.
        written = codes.index_select(0, ids.flatten())
        of_seeds = written.view(seeds, groups, -1, width)
        inputs = of_seeds.repeat_interleave(members // seeds, 0).flatten(0, 1)

        grad_weight = torch.bmm(delta.transpose(1, 2), inputs)
        grad_bias = delta.sum(1)
        return None, None, grad_weight.view(weight_shape), grad_bias.view(bias_shape)
