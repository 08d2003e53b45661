"""Recurrent memory behind the MiniGrid encoder: a gated recurrent unit (Cho et al. 2014) over sequences of steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.encode import Seen
from agents.grid import GridNet
from agents.networks import Recall, Views
from agents.trunk import StackedLinear


@dataclass(frozen=True)
class GRUNet(GridNet):
    """A ``GridNet`` whose features pass a GRU of ``width`` units; the GRU's state is what the heads see.

    Rows ``b`` of an input ``[S, T, b, in]`` are sequences one after the other, each of ``b / c`` consecutive steps, for
    states ``[K, T, c, width]`` at their beginnings. Without a ``Recall`` every row is a first step.
    """

    @property
    def trunk_shapes(self) -> dict[str, tuple[int, ...]]:
        size = (3 * self.width, self.width)
        gates = {"trunk.gru.input": size, "trunk.gru.input.bias": size[:1]}
        return super().trunk_shapes | gates | {"trunk.gru.state": size, "trunk.gru.state.bias": size[:1]}

    def fan_in(self, name: str, shape: tuple[int, ...]) -> int:
        """Gates start within ``1 / sqrt(width)``, so that the state neither explodes nor vanishes."""
        return 6 * self.width if name.startswith("trunk.gru") else super().fan_in(name, shape)

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
        states = []
        for step in range(batch // count):
            if going is not None:
                state = state * going[:, :, :, step]
            state = self._step(views, gates[:, :, :, step], state)
            states.append(state)
        return torch.stack(states, 3).view(members, tasks, batch, -1)

    def _step(self, views: Views, gates: Tensor, state: Tensor) -> Tensor:
        weight = views["trunk.gru.state"]
        own = StackedLinear.apply(state.to(weight.dtype), weight).float() + _bias(views["trunk.gru.state.bias"])
        (reset, update, new), (own_reset, own_update, own_new) = gates.chunk(3, -1), own.chunk(3, -1)
        candidate = torch.tanh(new + torch.sigmoid(reset + own_reset) * own_new)
        return torch.lerp(candidate, state, torch.sigmoid(update + own_update))


def _bias(bias: Tensor) -> Tensor:
    """Bias ``[K, n]``, or per task ``[K, T, n]``, for rows ``[K, T, b, n]``."""
    return bias[:, None, None].float() if bias.dim() == 2 else bias.unsqueeze(2).float()
