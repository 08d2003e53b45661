"""The layers of stacked MLPs as autograd functions that form only the gradients asked for, by the fastest product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

ROWS_STEP = 64
"""Where rows are left out of a product, the number of the others is rounded up to a multiple of this."""


class ReLUTrunk(torch.autograd.Function):
    """``x -> ReLU(W_L ... ReLU(W_1 x + b_1) ... + b_L)`` for ``K`` members.

    Inputs: ``x`` ``[S, T, b, in]`` with ``K`` a multiple of ``S`` (consecutive members share an input), then per layer
    a weight ``[K, out, in]`` and a bias ``[K, out]``, all of one dtype. A weight and bias expanded over tasks,
    ``[K, T, out, in]`` and ``[K, T, out]``, compute the same and receive their gradient per task, in one batched
    product instead of ``T`` backward passes. Output: ``[K, T, b, out]`` float32.

    On a GPU all members go through one batched product a layer. On a CPU they go one by one, since there a single
    product fills the machine and fuses with bias and ReLU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, *params: Tensor) -> Tensor:
        return _forward(ctx, "relu", x, params)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _backward(ctx, "relu", grads[0])


class TanhTrunk(torch.autograd.Function):
    """``ReLUTrunk`` with tanh in place of ReLU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *params: Tensor) -> Tensor:
        return _forward(ctx, "tanh", x, params)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _backward(ctx, "tanh", grads[0])


class StackedLinear(torch.autograd.Function):
    """``x Wᵀ`` for ``x`` ``[K, T, b, in]`` and ``W`` ``[K, out, in]``, or ``W`` expanded to ``[K, T, out, in]``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        shared = weight if weight.dim() == 3 else weight[:, 0]
        ctx.save_for_backward(x, shared)
        ctx.weight_shape = weight.shape
        return _product(x.flatten(1, 2), shared).view(*x.shape[:3], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        need_x, need_weight = ctx.needs_input_grad
        rows = grads[0].flatten(1, 2)
        grad_x = torch.bmm(rows, weight).view_as(x) if need_x else None
        if not need_weight:
            return grad_x, None
        start = (
            1 if len(ctx.weight_shape) == 4 else 0
        )  # keep the task axis, or merge it into the rows
        delta, inputs = (a.flatten(0, 1) if start else a.flatten(1, 2) for a in (grads[0], x))
        return grad_x, torch.bmm(delta.transpose(1, 2), inputs).view(ctx.weight_shape)


def layer_norm_trunk(x: Tensor, params: list[Tensor]) -> Tensor:
    """``h -> ReLU(LayerNorm(W h) * gain + bias)`` per layer; ``params`` are weight, gain and bias of each.

    Shapes as in ``ReLUTrunk``, gains like biases. Output ``[K, T, b, out]`` float32.
    """
    members, groups = params[0].shape[0], params[0].shape[1] if params[0].dim() == 4 else x.shape[1]
    if members > x.shape[0]:
        x = x.repeat_interleave(members // x.shape[0], 0)
    hidden = x.view(members, groups, -1, x.shape[-1])
    for weight, gain, bias in zip(params[::3], params[1::3], params[2::3]):
        hidden = StackedLinear.apply(hidden, weight)
        if gain.shape[0] == 1 and gain.dim() == 2:
            hidden = torch.nn.functional.layer_norm(hidden, gain.shape[1:], gain[0], bias[0])
        else:
            gain, bias = (
                p.unsqueeze(-2) if p.dim() == 3 else p[:, None, None] for p in (gain, bias)
            )
            hidden = torch.addcmul(
                bias, torch.nn.functional.layer_norm(hidden, hidden.shape[-1:]), gain
            )
        hidden = hidden.relu_()
    return hidden.float().view(members, *x.shape[1:3], -1)


class LinearHeads(torch.autograd.Function):
    """``h Wᵀ + b`` for stacked heads: ``h`` ``[n, rows, width]``, ``W`` ``[n, out, width]``, ``b`` ``[n, out]``.

    The output is formed as ``(W hᵀ)ᵀ``, and the gradient of ``W`` as ``gᵀ h``, many times faster on a CPU than the
    ``(hᵀ g)ᵀ`` that autograd picks. With one output the gradient of ``h`` is an outer product, for which a matrix
    product is the slow way too.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(hidden, weight)
        return torch.baddbmm(bias.unsqueeze(2), weight, hidden.transpose(1, 2)).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        grad = grads[0]
        need_hidden, need_weight, need_bias = ctx.needs_input_grad
        backwards = torch.mul if weight.shape[1] == 1 else torch.bmm
        return (
            backwards(grad, weight) if need_hidden else None,
            torch.bmm(grad.transpose(1, 2), hidden) if need_weight else None,
            grad.sum(1) if need_bias else None,
        )


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
        return grads[0] * ctx.scale[:, :, None, None], None


def plain_trunk(activation: str, x: Tensor, params: Sequence[Tensor]) -> Tensor:
    """``ReLUTrunk`` or ``TanhTrunk`` where no gradients are asked for."""
    return _layers(activation, x, params)[0]


def _forward(ctx: Any, activation: str, x: Tensor, params: tuple[Tensor, ...]) -> Tensor:
    out, weights, saved = _layers(activation, x, params)
    ctx.save_for_backward(*weights, *saved)
    ctx.shape, ctx.params, ctx.dtype = x.shape, [p.shape for p in params], x.dtype
    return out


def _layers(
    activation: str, x: Tensor, params: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The output, the weights ``[K, out, in]``, and for each group of members its inputs and every layer's output."""
    seeds, tasks, batch, _ = x.shape
    members = params[0].shape[0]
    shared = [p if p.dim() == (3 if i % 2 == 0 else 2) else p[:, 0] for i, p in enumerate(params)]
    rows = x.flatten(1, 2)
    groups = _groups(members, x.is_cuda)
    out = (
        torch.empty(members, tasks * batch, shared[-1].shape[-1], device=x.device)
        if len(groups) > 1
        else None
    )
    saved: list[Tensor] = []
    for group in groups:
        h = _inputs(rows, group, members // seeds)
        saved.append(h)
        for weight, bias in zip(shared[::2], shared[1::2]):
            h = _layer(h, weight[group], bias[group], activation)
            saved.append(h)
        if out is not None:
            out[group] = h
    out = saved[-1].float() if out is None else out
    return out.view(members, tasks, batch, -1), shared[::2], saved


def _backward(ctx: Any, activation: str, grad: Tensor) -> tuple[Tensor | None, ...]:
    depth = len(ctx.params) // 2
    weights, saved = ctx.saved_tensors[:depth], ctx.saved_tensors[depth:]
    seeds, tasks, batch, _ = ctx.shape
    members = weights[0].shape[0]
    grad_hidden = grad.reshape(members, tasks * batch, -1)
    need_x, need_params = ctx.needs_input_grad[0], any(ctx.needs_input_grad[1:])
    like = grad_hidden.new_empty(0, dtype=ctx.dtype)
    twins = members // seeds
    to_x: list[Tensor] = []  # of members that have an input of their own
    shared = grad.new_zeros(seeds, tasks * batch, ctx.shape[-1]) if need_x and twins > 1 else None
    out = [like.new_empty(shape) if need_params else None for shape in ctx.params]
    for index, group in enumerate(_groups(members, grad_hidden.is_cuda)):
        layers = saved[index * (depth + 1) : (index + 1) * (depth + 1)]
        delta, outputs = grad_hidden[group], layers[1:]
        rows = rows_with_gradient(delta) if members > seeds and not need_params else None
        if rows is not None:
            delta, *outputs = (tensor.index_select(1, rows) for tensor in (delta, *outputs))
        delta = delta.to(ctx.dtype)
        for layer in range(depth - 1, -1, -1):
            delta = _activation_gradient(delta, outputs[layer], activation)
            grad_weight, grad_bias = out[2 * layer], out[2 * layer + 1]
            if grad_weight is not None and grad_bias is not None:
                _weight_gradient(delta, layers[layer], grad_weight[group], grad_bias[group])
            if layer > 0 or need_x:
                delta = torch.bmm(delta, weights[layer][group])
        if shared is None:
            to_x.append(delta)
            continue
        own = shared[_seeds(group, twins)]  # the members of a seed add up in float32
        if rows is not None:
            own.index_add_(1, rows, delta.to(own.dtype))
        else:
            own += delta.view(-1, min(twins, delta.shape[0]), *delta.shape[1:]).sum(1)
    if not need_x:
        return None, *out
    grad_x = shared if shared is not None else to_x[0] if len(to_x) == 1 else torch.cat(to_x)
    return grad_x.view(ctx.shape).to(ctx.dtype), *out


def rows_with_gradient(grad: Tensor) -> Tensor | None:
    """Rows to compute, on a CPU, of a backward pass from ``grad`` ``[1, rows, width]``: those that are not zero and a
    few more; None for all.

    A minimum over twin critics sends its gradient into one of them per row, so half of their rows are zero. The number
    is rounded up because oneDNN compiles a product anew for every shape.
    """
    if grad.is_cuda or grad.shape[1] < 8 * ROWS_STEP:
        return None
    nonzero = grad[0].abs().amax(-1) != 0  # NaN counts
    count = -(-int(nonzero.sum()) // ROWS_STEP) * ROWS_STEP
    if count >= grad.shape[1]:
        return None
    return nonzero.to(torch.uint8).sort(descending=True, stable=True).indices[:count]


def _groups(members: int, is_cuda: bool) -> list[slice]:
    return [slice(0, members)] if is_cuda else [slice(k, k + 1) for k in range(members)]


def _seeds(group: slice, twins: int) -> slice:
    return slice(group.start // twins, (group.stop - 1) // twins + 1)


def _inputs(rows: Tensor, group: slice, twins: int) -> Tensor:
    """The inputs of a group's members, from the inputs of the seeds."""
    own = rows[_seeds(group, twins)]
    size = group.stop - group.start
    return own if own.shape[0] == size else own.unsqueeze(1).expand(-1, twins, -1, -1).flatten(0, 1)


def _layer(x: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
    """ReLU or tanh of ``x Wᵀ + b`` for ``x`` ``[g, rows, in]``."""
    if not _has_fused_product(x):
        out = torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))
        return out.relu_() if activation == "relu" else out.tanh_()
    fused: Tensor = torch.ops.mkldnn._linear_pointwise(x[0], weight[0], bias[0], activation, [], "")
    return fused.unsqueeze(0)


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """``x Wᵀ`` for ``x`` ``[K, rows, in]``."""
    if not _has_fused_product(x):
        return torch.bmm(x, weight.transpose(1, 2))
    products = (
        torch.ops.mkldnn._linear_pointwise(h, w, None, "none", [], "") for h, w in zip(x, weight)
    )
    return torch.stack(list(products)) if x.shape[0] > 1 else next(products).unsqueeze(0)


def _has_fused_product(x: Tensor) -> bool:
    return not x.is_cuda and x.dtype == torch.bfloat16 and torch.backends.mkldnn.is_available()


def _activation_gradient(delta: Tensor, out: Tensor, activation: str) -> Tensor:
    """``delta`` times the derivative of the activation, from the activation's output."""
    if activation == "relu":
        return torch.ops.aten.threshold_backward(delta, out, 0)
    return torch.ops.aten.tanh_backward(delta, out)


def _weight_gradient(delta: Tensor, x: Tensor, grad_weight: Tensor, grad_bias: Tensor) -> None:
    """Write the gradients of one layer, per task if the destinations have a task axis."""
    if grad_weight.dim() == 4:
        tasks = grad_weight.shape[1]
        delta, x = (a.reshape(a.shape[0] * tasks, -1, a.shape[-1]) for a in (delta, x))
    grad_weight.copy_(torch.bmm(delta.transpose(1, 2), x).view_as(grad_weight))
    grad_bias.copy_(delta.sum(1).view_as(grad_bias))
