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
    """A ``GridNet`` whose features pass a GRU of ``width`` units; the GRU's state is what the heads see.

    Rows ``b`` of an input ``[S, T, b, in]`` are sequences one after the other, each of ``b / c`` consecutive steps, for
    states ``[K, T, c, width]`` at their beginnings. Without a ``Recall`` every row is a first step.
    """

    @cached_property
    def trunk_shapes(self) -> dict[str, tuple[int, ...]]:
        size = (3 * self.width, self.width)
        gates = {"trunk.gru.input": size, "trunk.gru.input.bias": size[:1]}
        return (
            super().trunk_shapes
            | gates
            | {"trunk.gru.state": size, "trunk.gru.state.bias": size[:1]}
        )

    def fan_in(self, name: str, shape: tuple[int, ...]) -> int:
        """Gates start within ``1 / sqrt(width)``, so that the state neither explodes nor vanishes."""
        return 6 * self.width if name.startswith("trunk.gru") else super().fan_in(name, shape)

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
        gates = StackedLinear.apply(rows, weight).float() + _bias(views["trunk.gru.input.bias"])
        count = batch if recall is None else recall.state.shape[2]  # sequences of a task
        sequences = count * tasks // groups
        gates = gates.view(members, groups, sequences, batch // count, -1)
        state = features.new_zeros(members, groups, sequences, self.width)
        going = None
        if recall is not None:
            state = recall.state.reshape(state.shape)
            going = (1 - recall.start.float()).view(-1, groups, sequences, batch // count, 1)
        states = Recurrence.apply(
            gates, state, going, views["trunk.gru.state"], views["trunk.gru.state.bias"]
        )
        return states.reshape(members, tasks, batch, -1)


class Recurrence(torch.autograd.Function):
    """States of a GRU after every step, ``[K, G, c, L, W]`` float32.

    Inputs: what the inputs add to the gates ``[K, G, c, L, 3 W]`` float32 (reset, update, candidate), the states before
    the first step ``[K, G, c, W]``, 0 where a step begins an episode and else 1 ``[S, G, c, L, 1]`` (None for no
    beginnings), and the state's weight ``[K, 3 W, W]`` and bias ``[K, 3 W]``, or both expanded over ``G`` tasks, whose
    gradients then come out per task. States before the first step get no gradient. All products are float32: each is of
    too few rows to gain from less.
    """

    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, state: Tensor, going: Tensor | None, weight: Tensor, bias: Tensor
    ) -> Tensor:
        members, groups, sequences, length, width = *gates.shape[:4], gates.shape[4] // 3
        shared, own_bias = (
            (p if p.dim() == n else p[:, 0]).float() for p, n in ((weight, 3), (bias, 2))
        )
        by_step = gates.movedim(3, 0).flatten(2, 3).contiguous()  # [L, K, rows, 3 W]
        if going is not None:
            going = going.repeat_interleave(members // len(going), 0).movedim(3, 0).flatten(2, 3)
        before, after, gate, own = (
            gates.new_empty(length, members, groups * sequences, n * width) for n in (1, 1, 3, 3)
        )
        last = state.flatten(1, 2)
        for step in range(length):
            h = (
                before[step].copy_(last)
                if going is None
                else torch.mul(last, going[step], out=before[step])
            )
            torch.baddbmm(own_bias.unsqueeze(1), h, shared.mT, out=own[step])
            torch.add(
                by_step[step, ..., : 2 * width],
                own[step, ..., : 2 * width],
                out=gate[step, ..., : 2 * width],
            )
            reset, update = gate[step, ..., : 2 * width].sigmoid_().chunk(2, -1)
            new = torch.addcmul(
                by_step[step, ..., 2 * width :], reset, own[step, ..., 2 * width :]
            ).tanh_()
            gate[step, ..., 2 * width :] = new
            last = torch.lerp(new, h, update, out=after[step])
        ctx.save_for_backward(before, gate, own[..., 2 * width :], going, shared)
        ctx.shape, ctx.params = gates.shape, (weight.shape, bias.shape, weight.dtype)
        return after.unflatten(2, (groups, sequences)).movedim(0, 3)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        before, gate, own_new, going, weight = ctx.saved_tensors
        groups, sequences, length = ctx.shape[1:4]
        reset, update, new = gate.chunk(3, -1)
        width = new.shape[-1]
        to_update = (before - new) * update * (1 - update)
        to_new = (1 - update) * (1 - new.square())
        to_reset = own_new * reset * (1 - reset)
        grad = grads[0].movedim(3, 0).flatten(2, 3)
        slope = torch.empty_like(
            gate
        )  # of the state's share of the gates; that of the inputs differs in the candidate
        candidate = torch.empty_like(new)
        carry = torch.zeros_like(new[0])
        for step in range(length - 1, -1, -1):
            whole = grad[step] + carry
            part = slope[step]
            torch.mul(whole, to_new[step], out=candidate[step])
            torch.mul(candidate[step], to_reset[step], out=part[..., :width])
            torch.mul(whole, to_update[step], out=part[..., width : 2 * width])
            torch.mul(candidate[step], reset[step], out=part[..., 2 * width :])
            carry = torch.bmm(part, weight).addcmul_(whole, update[step])
            if going is not None:
                carry *= going[step]
        grad_gates = torch.cat([slope[..., : 2 * width], candidate], -1)
        grad_gates = grad_gates.unflatten(2, (groups, sequences)).movedim(0, 3)
        # Rows of a parameter: of all tasks, or of its own task where it is expanded.
        own = groups if len(ctx.params[0]) == 4 else 1
        slope, before = (
            x.unflatten(2, (own, -1)).permute(1, 2, 0, 3, 4).flatten(2, 3) for x in (slope, before)
        )
        grad_weight = (slope.mT @ before).view(ctx.params[0]).to(ctx.params[2])
        grad_bias = slope.sum(2).view(ctx.params[1]).to(ctx.params[2])
        return grad_gates, None, None, grad_weight, grad_bias


def _bias(bias: Tensor) -> Tensor:
    """Bias ``[K, n]``, or per task ``[K, T, n]``, for rows ``[K, T, b, n]``."""
    return bias[:, None, None].float() if bias.dim() == 2 else bias.unsqueeze(2).float()
