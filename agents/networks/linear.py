"""The linear layer of stacked networks, which forms only the needed gradients, by the fastest product.

Shapes: ``x`` ``[S, T, b, in]``; a weight ``[K, G, out, in]`` and a bias ``[K, G, out]``, with ``K`` a multiple of ``S``
(consecutive members share an input) and ``G`` groups of rows as in ``parameters``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none"
) -> Tensor:
    """``x Wᵀ + b``, or ReLU or tanh of it, ``[K, T, b, out]``, in the dtype of the weight.

    ``G`` is 1 for a shared weight. A shared weight expanded over tasks computes the same and gets its gradient per
    task; a weight whose values differ between tasks multiplies each task's rows by its own.

    Args:
        activation: ``none``, ``relu`` or ``tanh``.
    """
    rows = by_group(of_members(x, weight.shape[0]), weight)
    if bias is not None:
        # A composed weight differs by task, and its bias may not.
        bias = bias.expand(-1, weight.shape[1], -1)
    out: Tensor = StackedLinear.apply(rows.to(weight.dtype), weight, bias, activation)
    return out.reshape(weight.shape[0], *x.shape[1:3], -1)


def scale_rows(x: Tensor, gain: Tensor, shift: Tensor | None = None) -> Tensor:
    """``x`` ``[K, T, b, n]`` times ``gain`` ``[K, G, n]``, plus ``shift`` of the same shape."""
    rows = by_group(x, gain)
    factors = gain.unsqueeze(2)
    if shift is None:
        return (rows * factors).view(x.shape)
    # One pass over the rows instead of two.
    return torch.addcmul(shift.unsqueeze(2), rows, factors).view(x.shape)


def of_members(x: Tensor, members: int) -> Tensor:
    """Inputs ``[K, ...]`` of the members, from those of the seeds ``[S, ...]``."""
    twins = members // x.shape[0]
    return x if twins == 1 else x.repeat_interleave(twins, 0)


def task_rows(own: Tensor, parameter: Tensor) -> Tensor:
    """Vectors ``[K, T, n]`` of tasks as rows ``[K, T, parts, n]`` of a layer with ``parameter`` ``[K, G, ...]``.

    ``parts`` is 1, but where each task's rows are split in groups it is how many.
    """
    parts = max(parameter.shape[1] // own.shape[1], 1)
    return own.unsqueeze(2).expand(-1, -1, parts, -1)


def over_rows(values: Tensor, batch: int) -> Tensor:
    """What was made of ``task_rows``, ``[K, T, parts, n]``, for every row of a task, ``[K, T, batch, n]``."""
    parts = values.shape[2]
    spread = values.unsqueeze(3).expand(-1, -1, -1, batch // parts, -1)
    return spread.flatten(2, 3)


def by_group(x: Tensor, parameter: Tensor) -> Tensor:
    """``x`` ``[K, T, b, n]`` as ``[K, g, rows, n]``, one group of rows for each group of the parameter.

    A shared parameter (``G = 1``) takes the tasks as they are.
    """
    groups = parameter.shape[1]
    if groups == 1:
        return x
    return x.reshape(x.shape[0], groups, -1, x.shape[-1])


def experts_as_members(parameter: Tensor) -> Tensor:
    """Parameters ``[K, G, E, ...]`` of E experts as ``[K E, G, ...]``; consecutive members share an input.

    One that is expanded over tasks stays so, and its gradient still comes out per task.
    """
    members: Tensor = ExpertsAsMembers.apply(parameter)
    return members


def in_parts(own: Tensor, like: Tensor) -> Tensor:
    """What tasks own, ``[K, T, ...]``, for every group of ``like`` ``[K, G, ...]``; a task may have several groups."""
    parts = max(like.shape[1] // own.shape[1], 1)
    return own if parts == 1 else own.repeat_interleave(parts, 1)


def differs_by_task(parameter: Tensor) -> bool:
    """Whether every task has values of its own in ``[K, G, ...]``; an expanded parameter has the same for all."""
    return parameter.shape[1] > 1 and parameter.stride(1) != 0


class ExpertsAsMembers(torch.autograd.Function):
    """``experts_as_members``: reshaping an expanded parameter of several members would write out its axis of tasks."""

    @staticmethod
    def forward(ctx: Any, parameter: Tensor) -> Tensor:
        ctx.lead = parameter.shape[0], parameter.shape[2]
        groups = parameter.shape[1]
        once = parameter if differs_by_task(parameter) else parameter[:, :1]
        members = once.movedim(2, 1).flatten(0, 1)
        return members.expand(-1, groups, *members.shape[2:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].unflatten(0, ctx.lead).movedim(1, 2)


class StackedLinear(torch.autograd.Function):
    """``f(x Wᵀ + b)`` for ``x`` ``[K, g, rows, in]`` and ``W`` ``[K, G, out, in]``; ``g`` is ``G`` unless that is 1.

    A bias ``[K, G, out]`` differs by task where the weight does, and may be None; ``f`` is as of ``linear``.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, activation: str
    ) -> Tensor:
        own = differs_by_task(weight)
        used = weight if own else weight[:, 0]
        if own:
            shift = None if bias is None else bias.flatten(0, 1)
            product = _batched(x.flatten(0, 1), used.flatten(0, 1), shift, activation)
        else:
            shift = None if bias is None else bias[:, 0]
            product = _product(x.flatten(1, 2), used, shift, activation)
        out = product.view(*x.shape[:3], -1)
        ctx.save_for_backward(x, used, None if activation == "none" else out)
        ctx.weight_shape = weight.shape
        ctx.activation = activation
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, out = ctx.saved_tensors
        need_x, need_weight, need_bias, _ = ctx.needs_input_grad
        grad = grads[0]
        if out is not None:
            grad = activation_gradient(grad, out, ctx.activation)
        grad_x = None
        if need_x:
            # A weight with a task axis multiplies one group of rows at a time.
            own = weight.dim() == 4
            grad_rows = grad.flatten(0, 1) if own else grad.flatten(1, 2)
            factor = weight.flatten(0, 1) if own else weight
            grad_x = torch.bmm(grad_rows, factor).view_as(x)
        if not (need_weight or need_bias):
            return grad_x, None, None, None
        members, groups = ctx.weight_shape[:2]
        delta = grad.reshape(members * groups, -1, grad.shape[-1])
        grad_bias = delta.sum(1).view(members, groups, -1) if need_bias else None
        if not need_weight:
            return grad_x, None, grad_bias, None
        inputs = x.reshape(members * groups, -1, x.shape[-1])
        grad_weight = torch.bmm(delta.transpose(1, 2), inputs)
        return grad_x, grad_weight.view(ctx.weight_shape), grad_bias, None


class LinearHeads(torch.autograd.Function):
    """``h Wᵀ + b`` for stacked heads: ``h`` ``[n, rows, width]``, ``W`` ``[n, out, width]``, ``b`` ``[n, out]``.

    The output is formed as ``(W hᵀ)ᵀ``, and the gradient of ``W`` as ``gᵀ h``, many times faster on a CPU than the
    ``(hᵀ g)ᵀ`` that autograd picks. With one output the gradient of ``h`` is an outer product, for which a matrix
    product is the slow way too.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(hidden, weight)
        transposed = torch.baddbmm(bias.unsqueeze(2), weight, hidden.transpose(1, 2))
        return transposed.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        grad = grads[0]
        need_hidden, need_weight, need_bias = ctx.needs_input_grad
        grad_hidden = None
        if need_hidden:
            # A matrix product with one column is an outer product, which ``mul`` computes faster.
            backwards = torch.mul if weight.shape[1] == 1 else torch.bmm
            grad_hidden = backwards(grad, weight)
        grad_weight = torch.bmm(grad.transpose(1, 2), hidden) if need_weight else None
        grad_bias = grad.sum(1) if need_bias else None
        return grad_hidden, grad_weight, grad_bias


class ScaleTasks(torch.autograd.Function):
    """Identity on ``[K, T, b, width]`` whose gradient is scaled per task by ``scale`` ``[K, T]``.

    The scale is read in the backward pass, so it may be set after the losses, on which it may depend, are known.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, scale: Tensor) -> Tensor:
        ctx.scale = scale  # not saved by autograd, which would refuse the later write
        return hidden.view_as(hidden)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scale = ctx.scale[:, :, None, None]
        return grads[0] * scale, None


def activation_gradient(delta: Tensor, out: Tensor, activation: str) -> Tensor:
    """``delta`` times the derivative of ReLU or tanh, from the activation's output."""
    if activation == "relu":
        return torch.ops.aten.threshold_backward(delta, out, 0)
    return torch.ops.aten.tanh_backward(delta, out)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    """``f(x Wᵀ + b)`` for ``x`` ``[K, rows, in]``, ``W`` ``[K, out, in]`` and ``b`` ``[K, out]``."""
    if not has_fused_product(x):
        return _batched(x, weight, bias, activation)
    biases: list[Tensor | None] = [None] * len(x)
    if bias is not None:
        biases = list(bias.unbind())
    products = [
        fused(rows, of_member, shift, activation)
        for rows, of_member, shift in zip(x, weight, biases)
    ]
    if len(products) == 1:
        # ``stack`` would copy the only product.
        return products[0].unsqueeze(0)
    return torch.stack(products)


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None:
        return torch.bmm(x, weight)
    # The sum starts from the bias, which saves a pass over the product.
    return torch.baddbmm(bias.unsqueeze(1), x, weight)


def _batched(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    """``_product`` as one batched product."""
    product = _affine(x, weight.transpose(1, 2), bias)
    if activation == "none":
        return product
    return product.relu_() if activation == "relu" else product.tanh_()


def fused(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
) -> Tensor:
    """oneDNN's product of ``[rows, in]`` and ``[out, in]`` with bias and activation in one pass over the output."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise(
        x,
        weight,
        bias,
        activation,
        [],
        "",
    )
    return out


def has_fused_product(x: Tensor) -> bool:
    """Whether ``fused`` takes ``x``: on a CPU, in bfloat16."""
    if not x.is_cpu or x.dtype != torch.bfloat16:
        return False
    return torch.backends.mkldnn.is_available()
