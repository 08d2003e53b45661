"""Recurrent memory behind the MiniGrid encoder: a gated recurrent unit (Cho et al. 2014) over sequences of steps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeGuard

import torch
from torch import Tensor

from mtrl.agents.networks.encode import Seen
from mtrl.agents.networks.grid import GridNet
from mtrl.agents.networks.network import Recall, Views
from mtrl.agents.networks.trunk import StackedLinear


@dataclass(frozen=True)
class GRUNet(GridNet):
    """A ``GridNet`` whose features pass a GRU of ``width`` units; the heads read the GRU's state.

    Rows ``b`` of an input ``[S, T, b, in]`` are sequences one after the other, each of ``b / c`` consecutive steps, for
    states ``[K, T, c, width]`` at their beginnings. Without a ``Recall`` every row is a first step.
    """

    @cached_property
    def trunk_shapes(self) -> dict[str, tuple[int, ...]]:
        gates = 3 * self.width
        shapes: dict[str, tuple[int, ...]] = {
            "trunk.gru.input": (gates, self.width),
            "trunk.gru.input.bias": (gates,),
            "trunk.gru.state": (gates, self.width),
            "trunk.gru.state.bias": (gates,),
        }
        return super().trunk_shapes | shapes

    def fan_in(self, name: str, shape: tuple[int, ...]) -> int:
        """Gates start within ``1 / sqrt(width)``, so that the state neither explodes nor vanishes."""
        if name.startswith("trunk.gru"):
            return 6 * self.width
        return super().fan_in(name, shape)

    def _once(self, seen: Tensor | Seen, views: Views) -> TypeGuard[Seen]:
        """Never: rows that repeat are remembered with different states."""
        return False

    def trunk(self, views: Views, x: Tensor | Seen, recall: Recall | None = None) -> Tensor:
        """States after every step ``[K, T, b, width]`` float32."""
        features = super().trunk(views, x)
        members, tasks, batch, _ = features.shape
        weight = views["trunk.gru.input"]
        groups = weight.shape[1] if weight.dim() == 4 else tasks
        rows = features.view(members, groups, -1, self.width).to(weight.dtype)
        # The inputs' share of all gates needs no recurrence: one product for all steps.
        products = StackedLinear.apply(rows, weight)
        gates = products.float() + _bias(views["trunk.gru.input.bias"])

        # Without a recall every row is a sequence of one step.
        per_task = batch if recall is None else recall.state.shape[2]
        sequences = per_task * tasks // groups
        length = batch // per_task
        if recall is None:
            state = features.new_zeros(members, groups, sequences, self.width)
            going = None
        else:
            state = recall.state.reshape(
                members,
                groups,
                sequences,
                self.width,
            )
            going = 1 - recall.start.float()
            going = going.view(-1, groups, sequences, length, 1)
        states = Recurrence.apply(
            gates.view(members, groups, sequences, length, -1),
            state,
            going,
            views["trunk.gru.state"],
            views["trunk.gru.state.bias"],
        )
        return states.reshape(members, tasks, batch, -1)


class Recurrence(torch.autograd.Function):
    """States of a GRU after every step, ``[K, G, c, L, W]`` float32.

    Inputs, with gates in the order reset, update, candidate:
        gates: ``W_i x + b_i`` of every step, ``[K, G, c, L, 3 W]`` float32.
        state: the states before the first step, ``[K, G, c, W]``; they get no gradient.
        going: 0 where a step begins an episode, else 1, ``[S, G, c, L, 1]``; None if no step does.
        weight, bias: of the state, ``[K, 3 W, W]`` and ``[K, 3 W]``. If they are expanded over ``G`` tasks, their
            gradients come out per task.

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
        shared = _shared(weight, ndim=3)
        shift = _shared(bias, ndim=2).unsqueeze(1)
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
        parts = groups if len(weight_shape) == 4 else 1
        slopes = _rows_of_parts(slope, parts)
        states = _rows_of_parts(before, parts)
        grad_weight = (slopes.mT @ states).view(weight_shape).to(dtype)
        grad_bias = slopes.sum(2).view(bias_shape).to(dtype)
        return grad_gates, None, None, grad_weight, grad_bias


def _shared(param: Tensor, ndim: int) -> Tensor:
    """A parameter as float32, without the task axis that it may be expanded over."""
    shared = param if param.dim() == ndim else param[:, 0]
    return shared.float()


def _rows_of_parts(x: Tensor, parts: int) -> Tensor:
    """``[L, K, rows, n]`` as ``[K, parts, L * rows / parts, n]``."""
    by_part = x.unflatten(2, (parts, -1))
    return by_part.permute(1, 2, 0, 3, 4).flatten(2, 3)


def _bias(bias: Tensor) -> Tensor:
    """Bias ``[K, n]``, or per task ``[K, T, n]``, for rows ``[K, T, b, n]``."""
    if bias.dim() == 2:
        return bias[:, None, None].float()
    return bias.unsqueeze(2).float()
