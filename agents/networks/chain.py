"""Chains of linear layers and activations as one autograd function: the fast path of the plain MLP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mtrl.agents.networks.linear import activation_gradient, fused, has_fused_product


class ReLUTrunk(torch.autograd.Function):
    """``x -> ReLU(W_L ... ReLU(W_1 x + b_1) ... + b_L)`` for ``K`` members.

    Inputs: ``x`` ``[S, T, b, in]`` with ``K`` a multiple of ``S`` (consecutive members share an input), then per layer
    a weight ``[K, 1, out, in]`` and a bias ``[K, 1, out]``, all of one dtype and shared by all tasks. Expanded over
    tasks, ``[K, T, out, in]`` and ``[K, T, out]``, they compute the same and receive their gradient per task, in one
    batched product instead of ``T`` backward passes. Output: ``[K, T, b, out]`` float32.

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


def plain_trunk(activation: str, x: Tensor, params: Sequence[Tensor]) -> Tensor:
    """``ReLUTrunk`` or ``TanhTrunk`` where no gradients are asked for."""
    return _layers(activation, x, params)[0]


def _forward(ctx: Any, activation: str, x: Tensor, params: tuple[Tensor, ...]) -> Tensor:
    out, weights, saved = _layers(activation, x, params)
    ctx.save_for_backward(*weights, *saved)
    ctx.shape = x.shape
    ctx.params = [param.shape for param in params]
    ctx.dtype = x.dtype
    return out


def _layers(
    activation: str,
    x: Tensor,
    params: Sequence[Tensor],
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Run all layers.

    Returns:
        The output; the weights ``[K, out, in]``; for each group of members its input and the output of every layer.
    """
    seeds, tasks, batch, _ = x.shape
    weights = [weight[:, 0] for weight in params[::2]]
    biases = [bias[:, 0] for bias in params[1::2]]
    members = len(weights[0])
    twins = members // seeds
    rows = x.flatten(1, 2)
    groups = _groups(members, x.is_cpu)
    out = None
    # One group writes its result as a whole; several write into one tensor.
    if len(groups) > 1:
        out = torch.empty(
            members,
            rows.shape[1],
            biases[-1].shape[-1],
            device=x.device,
        )
    saved: list[Tensor] = []
    for group in groups:
        hidden = _inputs(rows, group, twins)
        saved.append(hidden)
        for weight, bias in zip(weights, biases):
            hidden = _layer(hidden, weight[group], bias[group], activation)
            saved.append(hidden)
        if out is not None:
            out[group] = hidden
    if out is None:
        out = saved[-1].float()
    return out.view(members, tasks, batch, -1), weights, saved


def _backward(ctx: Any, activation: str, grad: Tensor) -> tuple[Tensor | None, ...]:
    depth = len(ctx.params) // 2
    weights = ctx.saved_tensors[:depth]
    saved = ctx.saved_tensors[depth:]
    seeds, tasks, batch, _ = ctx.shape
    members = weights[0].shape[0]
    twins = members // seeds
    grad_hidden = grad.reshape(members, tasks * batch, -1)
    need_x = ctx.needs_input_grad[0]
    need_params = any(ctx.needs_input_grad[1:])
    grad_params: list[Tensor | None] = [None] * len(ctx.params)
    if need_params:
        like = grad_hidden.new_empty(0, dtype=ctx.dtype)
        grad_params = [like.new_empty(shape) for shape in ctx.params]
    # Members that share an input add their gradients to one tensor; else each group has its own.
    shared = None
    if need_x and twins > 1:
        shared = grad.new_zeros(seeds, tasks * batch, ctx.shape[-1])
    grad_inputs: list[Tensor] = []
    for index, group in enumerate(_groups(members, grad_hidden.is_cpu)):
        first = index * (depth + 1)
        inputs = saved[first : first + depth]
        outputs = saved[first + 1 : first + 1 + depth]
        delta = grad_hidden[group].to(ctx.dtype)
        for layer in reversed(range(depth)):
            delta = activation_gradient(delta, outputs[layer], activation)
            grad_weight = grad_params[2 * layer]
            grad_bias = grad_params[2 * layer + 1]
            if grad_weight is not None and grad_bias is not None:
                _weight_gradient(
                    delta,
                    inputs[layer],
                    grad_weight[group],
                    grad_bias[group],
                )
            if layer > 0 or need_x:
                delta = torch.bmm(delta, weights[layer][group])
        if shared is None:
            grad_inputs.append(delta)
        else:
            _add_to_seeds(shared[_seeds(group, twins)], delta, twins)
    if not need_x:
        return None, *grad_params
    grad_x = shared
    if grad_x is None:
        grad_x = grad_inputs[0] if len(grad_inputs) == 1 else torch.cat(grad_inputs)
    return grad_x.view(ctx.shape).to(ctx.dtype), *grad_params


def _add_to_seeds(total: Tensor, delta: Tensor, twins: int) -> None:
    """Add the members' gradients of their shared inputs to ``total`` ``[s, rows, in]`` float32, those of the seeds."""
    per_seed = min(twins, delta.shape[0])
    total += delta.view(-1, per_seed, *delta.shape[1:]).sum(1)


def _groups(members: int, on_cpu: bool) -> list[slice]:
    """Members that are computed in one product: all on a GPU, one on a CPU."""
    if not on_cpu:
        return [slice(0, members)]
    return [slice(member, member + 1) for member in range(members)]


def _seeds(group: slice, twins: int) -> slice:
    """The seeds that a group of members belongs to."""
    first = group.start // twins
    last = (group.stop - 1) // twins
    return slice(first, last + 1)


def _inputs(rows: Tensor, group: slice, twins: int) -> Tensor:
    """The inputs of a group's members, from the inputs of the seeds."""
    of_seeds = rows[_seeds(group, twins)]
    size = group.stop - group.start
    if of_seeds.shape[0] == size:
        return of_seeds
    return of_seeds.unsqueeze(1).expand(-1, twins, -1, -1).flatten(0, 1)


def _layer(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    activation: str,
) -> Tensor:
    """ReLU or tanh of ``x Wᵀ + b`` for ``x`` ``[g, rows, in]``."""
    if has_fused_product(x):
        return fused(x[0], weight[0], bias[0], activation).unsqueeze(0)
    out = torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))
    return out.relu_() if activation == "relu" else out.tanh_()


def _weight_gradient(
    delta: Tensor,
    x: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
) -> None:
    """Write the gradients of one layer, one for each group of rows that the destinations have."""
    groups = delta.shape[0] * grad_weight.shape[1]
    delta = delta.reshape(groups, -1, delta.shape[-1])
    x = x.reshape(groups, -1, x.shape[-1])
    product = torch.bmm(delta.transpose(1, 2), x)
    grad_weight.copy_(product.view_as(grad_weight))
    grad_bias.copy_(delta.sum(1).view_as(grad_bias))
