"""Recurrent memory between body and heads: a gated recurrent unit (Cho et al. 2014) over sequences of steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtrl.agents.networks.layers import Named
from mtrl.agents.networks.linear import linear
from mtrl.agents.networks.parameters import Parameter, uniform


class Recall(NamedTuple):
    """Where a network with memory continues.

    Attributes:
        state: at the beginning of ``c`` sequences, ``[K, T, c, H]``.
        start: true at the first steps of episodes, where the state is reset to 0, ``[S, T, b]``.
    """

    state: Tensor
    start: Tensor


@dataclass(frozen=True)
class GRU:
    """A GRU of ``units`` that reads a body's ``num_features``; the heads read its state.

    Rows ``b`` of an input ``[S, T, b, in]`` are sequences one after the other, each of ``b / c`` consecutive steps, for
    states ``[K, T, c, H]`` at their beginnings. Without a ``Recall`` every row is a first step.
    """

    num_features: int
    units: int

    def parameters(self) -> dict[str, Parameter]:
        # Within ``1 / sqrt(H)``, so that the state neither explodes nor vanishes.
        start = uniform(math.sqrt(6 / (6 * self.units)))
        gates = 3 * self.units
        return {
            "input": Parameter((gates, self.num_features), start),
            "input.bias": Parameter((gates,), 0.0),
            "state": Parameter((gates, self.units), start),
            "state.bias": Parameter((gates,), 0.0),
        }

    def states(self, p: Named, features: Tensor, recall: Recall | None) -> Tensor:
        """States after every step ``[K, T, b, H]`` float32, of features ``[K, T, b, F]``."""
        members, tasks, batch, _ = features.shape
        # The inputs' share of all gates needs no recurrence: one product for all steps.
        products = linear(features, p["input"])
        per_task = p["input"].shape[1]
        groups = tasks if per_task == 1 else per_task
        bias = p["input.bias"].unsqueeze(2).float()
        gates = products.view(members, groups, -1, products.shape[-1]).float() + bias

        # Without a recall every row is a sequence of one step.
        count = batch if recall is None else recall.state.shape[2]
        sequences = count * tasks // groups
        length = batch // count
        if recall is None:
            state = features.new_zeros(members, groups, sequences, self.units)
            going = None
        else:
            state = recall.state.reshape(members, groups, sequences, self.units)
            going = 1 - recall.start.float()
            going = going.view(-1, groups, sequences, length, 1)
        states: Tensor = Recurrence.apply(
            gates.view(members, groups, sequences, length, -1),
            state,
            going,
            p["state"],
            p["state.bias"],
        )
        return states.reshape(members, tasks, batch, -1)


class Recurrence(torch.autograd.Function):
    """States of a GRU after every step, ``[K, G, c, L, W]`` float32.

    Inputs, with gates in the order reset, update, candidate:
        gates: ``W_i x + b_i`` of every step, ``[K, G, c, L, 3 W]`` float32.
        state: the states before the first step, ``[K, G, c, W]``; they get no gradient.
        going: 0 where a step begins an episode, else 1, ``[S, G, c, L, 1]``; None if no step does.
        weight, bias: of the state, ``[K, 1, 3 W, W]`` and ``[K, 1, 3 W]``. If they are expanded over ``G`` tasks,
            their gradients come out per task.

    All products are float32, since each has too few rows to gain from bfloat16.
    """

    @staticmethod
    def forward(
        ctx: Any,
        gates: Tensor,
        state: Tensor,
        going: Tensor | None,
        weight: Tensor,
        bias: Tensor,
    ) -> Tensor:
        members, groups, sequences, length, size = gates.shape
        width = size // 3
        rows = groups * sequences
        # Without the axis of tasks that they may be expanded over.
        shared = weight[:, 0].float()
        shift = bias.float()[:, :1]
        # Steps come first and contiguous, since the loop reads one step after the other.
        by_step = gates.movedim(3, 0).flatten(2, 3).contiguous()  # [L, K, rows, 3 W]
        if going is not None:
            going = going.repeat_interleave(members // len(going), 0)
            going = going.movedim(3, 0).flatten(2, 3)

        before = gates.new_empty(length, members, rows, width)
        after = gates.new_empty(length, members, rows, width)
        gate = gates.new_empty(length, members, rows, size)
        from_state = gates.new_empty(length, members, rows, size)
        two = 2 * width  # reset and update end here, the candidate begins
        last = state.flatten(1, 2)
        for step in range(length):
            h = before[step]
            if going is None:
                h.copy_(last)
            else:
                torch.mul(last, going[step], out=h)
            of_state = torch.baddbmm(shift, h, shared.mT, out=from_state[step])
            of_input = by_step[step]
            both = gate[step, ..., :two]
            torch.add(of_input[..., :two], of_state[..., :two], out=both)
            reset, update = both.sigmoid_().chunk(2, -1)
            # The reset gate scales the product, not the state, as in torch.nn.GRU.
            candidate = torch.addcmul(of_input[..., two:], reset, of_state[..., two:])
            candidate = candidate.tanh_()
            gate[step, ..., two:] = candidate
            last = torch.lerp(candidate, h, update, out=after[step])
        ctx.save_for_backward(
            before,
            gate,
            from_state[..., two:],
            going,
            shared,
        )
        ctx.shape = gates.shape
        ctx.params = weight.shape, bias.shape, weight.dtype
        return after.unflatten(2, (groups, sequences)).movedim(0, 3)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        before, gate, candidate_of_state, going, weight = ctx.saved_tensors
        weight_shape, bias_shape, dtype = ctx.params
        groups, sequences, length = ctx.shape[1:4]
        reset, update, new = gate.chunk(3, -1)
        width = new.shape[-1]
        two = 2 * width

        # Derivatives of the new state that need no recurrence, for all steps at once.
        to_update = (before - new) * update * (1 - update)
        to_new = (1 - update) * (1 - new.square())
        to_reset = candidate_of_state * reset * (1 - reset)
        grad = grads[0].movedim(3, 0).flatten(2, 3)
        # The candidate's gradient differs between the state's share of the gates and the inputs'.
        slope = torch.empty_like(gate)
        candidate = torch.empty_like(new)
        carry = torch.zeros_like(new[0])
        for step in reversed(range(length)):
            whole = grad[step] + carry
            part = slope[step]
            torch.mul(whole, to_new[step], out=candidate[step])
            torch.mul(candidate[step], to_reset[step], out=part[..., :width])
            torch.mul(whole, to_update[step], out=part[..., width:two])
            torch.mul(candidate[step], reset[step], out=part[..., two:])
            carry = torch.bmm(part, weight)
            carry = carry.addcmul_(whole, update[step])
            if going is not None:
                carry *= going[step]

        grad_gates = torch.cat([slope[..., :two], candidate], -1)
        grad_gates = grad_gates.unflatten(2, (groups, sequences)).movedim(0, 3)
        # An expanded parameter sums over the rows of its own task, else over those of all tasks.
        parts = weight_shape[1]
        slopes = _rows_of_parts(slope, parts)
        states = _rows_of_parts(before, parts)
        grad_weight = (slopes.mT @ states).view(weight_shape).to(dtype)
        grad_bias = slopes.sum(2).view(bias_shape).to(dtype)
        return grad_gates, None, None, grad_weight, grad_bias


def _rows_of_parts(x: Tensor, parts: int) -> Tensor:
    """``[L, K, rows, n]`` as ``[K, parts, L * rows / parts, n]``."""
    by_part = x.unflatten(2, (parts, -1))
    return by_part.permute(1, 2, 0, 3, 4).flatten(2, 3)
