"""Stacked multi-task MLPs as pure functions of one flat parameter tensor.

A network is a ``[K, P]`` tensor: ``K`` independent members (seeds, or seeds x twin critics) of ``P`` parameters each.
Keeping the parameters flat makes an optimiser step, a soft target update, a checkpoint and the row of a gradient matrix
one tensor operation each. The forward pass takes task-major inputs ``[K, T, b, in]``.

The trunk computes in ``dtype`` (bfloat16 where the machine multiplies it fast); the heads, and so every Q value and
every action, are computed in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from mtrl.agents.networks.trunk import (
    LinearHeads,
    ReLUTrunk,
    ScaleTasks,
    TanhTrunk,
    layer_norm_trunk,
    plain_trunk,
)

Views = dict[str, Tensor]
TASK_SCALE = "task_scale"
"""Name among the views of ``[K, T]`` factors of the gradients that tasks send into the trunk."""


class OwnViews(dict[str, Tensor]):
    """Views ``[K, T, ...]`` of parameters that differ between tasks, heads included."""


class Recall(NamedTuple):
    """Where a network with memory continues.

    Attributes:
        state: at the beginning of ``c`` sequences, ``[K, T, c, H]``.
        start: true at the first steps of episodes, where the state is reset to 0, ``[S, T, b]``.
    """

    state: Tensor
    start: Tensor


@dataclass(frozen=True)
class MLP:
    """Layout of a network: ``depth`` shared hidden layers of ``width``, then ``num_heads`` linear heads.

    Attributes:
        num_heads: the number of tasks for one head a task, 1 for a shared head.
        activation: of the hidden layers; ``layer_norm`` is ReLU after LayerNorm with learned gain and bias.
    """

    in_dim: int
    width: int
    depth: int
    out_dim: int
    num_heads: int
    activation: Literal["relu", "tanh", "layer_norm"] = "relu"

    @cached_property
    def num_features(self) -> int:
        """Inputs of the first hidden layer."""
        return self.in_dim

    @cached_property
    def trunk_shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameters that all tasks share."""
        return self.hidden_shapes

    @cached_property
    def hidden_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        fan_in = self.num_features
        for layer in range(self.depth):
            shapes[f"trunk.{layer}.weight"] = (self.width, fan_in)
            if self.activation == "layer_norm":
                shapes[f"trunk.{layer}.gain"] = (self.width,)
            shapes[f"trunk.{layer}.bias"] = (self.width,)
            fan_in = self.width
        return shapes

    @cached_property
    def head_shapes(self) -> dict[str, tuple[int, ...]]:
        return {
            "head.weight": (self.num_heads, self.out_dim, self.width),
            "head.bias": (self.num_heads, self.out_dim),
        }

    @cached_property
    def num_trunk_parameters(self) -> int:
        return sum(math.prod(shape) for shape in self.trunk_shapes.values())

    @cached_property
    def num_parameters(self) -> int:
        of_heads = [math.prod(shape) for shape in self.head_shapes.values()]
        return self.num_trunk_parameters + sum(of_heads)

    def init(self, members: int, generator: torch.Generator, head_scale: float = 1.0) -> Tensor:
        """He-uniform weights, zero biases and unit gains, ``[members, P]`` float32 on the generator's device.

        Args:
            head_scale: factor on the heads' weights.
        """
        shapes = self.trunk_shapes | self.head_shapes
        device = generator.device
        parts = []
        for name, shape in shapes.items():
            size = (members, math.prod(shape))
            if name.endswith("bias"):
                parts.append(torch.full(size, 0.0, device=device))
            elif name.endswith("gain"):
                parts.append(torch.full(size, 1.0, device=device))
            else:
                bound = math.sqrt(6 / self.fan_in(name, shape))
                if name == "head.weight":
                    bound *= head_scale
                weights = torch.empty(size, device=device)
                parts.append(weights.uniform_(-bound, bound, generator=generator))
        return torch.cat(parts, 1)

    def fan_in(self, name: str, shape: tuple[int, ...]) -> int:
        """Inputs of each unit of a weight, for its initial scale."""
        return shape[-1]

    def views(self, flat: Tensor, dtype: torch.dtype) -> Views:
        """Named views of ``flat`` ``[K, P]``: trunk cast to ``dtype`` in one operation, heads in float32."""
        first_head = self.num_trunk_parameters
        # One conversion of all parameters is cheaper than one a layer.
        trunk = flat[:, :first_head].to(dtype)
        heads = flat[:, first_head:]
        return _split(trunk, self.trunk_shapes) | _split(heads, self.head_shapes)

    def constants(self, flat: Tensor, dtype: torch.dtype) -> Views:
        """``views`` for acting until ``flat`` changes, without gradients; subclasses add tables computed ahead."""
        return self.views(flat.detach(), dtype)

    def leaves(self, flat: Tensor, dtype: torch.dtype) -> Views:
        """Like ``views``, but each one a leaf that gradients can be asked for."""
        views = self.views(flat, dtype)
        return {name: view.detach().requires_grad_() for name, view in views.items()}

    def per_task(self, views: Views, groups: int) -> Views:
        """Leaves whose gradients come out per task, ``[K, groups, ...]``, at the price of one backward pass.

        Nothing is copied: the task axis of shared parameters is an expanded view, and the trunk's layers form the
        gradient of each task as one batched product. Heads that each task owns stay as they are.

        Args:
            groups: the number of tasks, or a multiple of it to split each task's rows further.
        """
        expanded = {}
        for name in self.trunk_shapes:
            view = views[name].detach().unsqueeze(1)
            expanded[name] = view.expand(-1, groups, *view.shape[2:]).requires_grad_()
        if self.num_heads == 1:
            # A shared head has an axis for its task already, of size 1.
            for name in self.head_shapes:
                view = views[name].detach()
                expanded[name] = view.expand(-1, groups, *view.shape[2:]).requires_grad_()
        return views | expanded

    def look(self, x: Tensor) -> Any:
        """Precompute the part of the encoding that actor and critic share; ``trunk`` takes ``x`` or this result."""
        return x

    def take(self, x: Any, index: Tensor) -> Any:
        """The rows at ``index`` ``[S, T, m]`` of the result of ``look`` for ``[S, T, n, in]``."""
        return take_rows(index, x)[0]

    def split(self, x: Any, size: int) -> Sequence[Any]:
        """Split the result of ``look`` for ``[S, T, n, in]`` into parts of at most ``size`` rows a task."""
        parts: Sequence[Tensor] = x.split(size, 2)
        return parts

    def rows(self, x: Any) -> Tensor:
        """The rows ``[S, T, b, in]`` that ``look`` was given."""
        rows: Tensor = x
        return rows

    def forward(self, views: Views, x: Any, recall: Recall | None = None) -> Tensor:
        """Own-head outputs ``[K, T, b, out]`` float32 of task-major inputs ``[S, T, b, in]``.

        ``K`` is a multiple of ``S``; consecutive members share an input (twin critics of one seed). ``TASK_SCALE``
        among the views ``[K, T]`` scales what each task sends back into the trunk. With ``OwnViews`` each task passes
        through parameters of its own.
        """
        if isinstance(views, OwnViews):
            return self._forward_own(views, self.rows(x), recall)
        return self.heads(views, self.trunk(views, x, recall))

    def _forward_own(self, views: OwnViews, x: Tensor, recall: Recall | None) -> Tensor:
        """``forward`` of rows with the tasks as members, since each task has parameters of its own."""
        members, tasks = views["head.weight"].shape[:2]
        twins = members // x.shape[0]
        # Products are batched over members, so tasks with parameters of their own become members.
        alone = {name: view.flatten(0, 1) for name, view in views.items()}
        for name in self.head_shapes:
            alone[name] = alone[name].unsqueeze(1)
        if recall is not None:
            state = recall.state.flatten(0, 1).unsqueeze(1)
            start = recall.start.repeat_interleave(twins, 0)
            start = start.flatten(0, 1).unsqueeze(1)
            recall = Recall(state, start)
        rows = x.repeat_interleave(twins, 0).flatten(0, 1).unsqueeze(1)
        out = self.forward(alone, rows, recall)
        return out.view(members, tasks, *out.shape[2:])

    def heads(self, views: Views, hidden: Tensor) -> Tensor:
        """Own-head outputs ``[K, T, b, out]`` of features ``[K, T, b, width]``."""
        members, tasks, batch, _ = hidden.shape
        if TASK_SCALE in views:
            hidden = ScaleTasks.apply(hidden, views[TASK_SCALE])
        weight = views["head.weight"].flatten(0, 1)
        bias = views["head.bias"].flatten(0, 1)
        # One group of rows a head: those of its task, or of all tasks where the head is shared.
        hidden = hidden.view(weight.shape[0], -1, self.width)
        out: Tensor = LinearHeads.apply(hidden, weight, bias)
        return out.reshape(members, tasks, batch, self.out_dim)

    def trunk(self, views: Views, x: Any, recall: Recall | None = None) -> Tensor:
        """Shared features ``[K, T, b, width]`` float32 of ``[S, T, b, in]``; ``recall`` is for networks with memory."""
        return self.hidden(views, x)

    def hidden(self, views: Views, x: Tensor) -> Tensor:
        """The hidden layers' output ``[K, T, b, width]`` float32 for ``[S, T, b, num_features]``."""
        params = [views[name] for name in self.hidden_shapes]
        x = x.to(params[0].dtype)
        if self.activation == "layer_norm":
            return layer_norm_trunk(x, params)
        if not torch.is_grad_enabled():
            return plain_trunk(self.activation, x, params)
        layers = ReLUTrunk if self.activation == "relu" else TanhTrunk
        out: Tensor = layers.apply(x, *params)
        return out

    def forward_rows(self, views: Views, x: Tensor, task_id: Tensor) -> Tensor:
        """Outputs ``[K, n, out]`` of rows ``[K, n, in]`` that belong to any tasks ``[n]``, in any order."""
        hidden = self.trunk(views, x.unsqueeze(1))
        return self.head_rows(views, hidden.squeeze(1), task_id)

    def head_rows(self, views: Views, hidden: Tensor, task_id: Tensor) -> Tensor:
        """Outputs ``[K, n, out]`` of features ``[K, n, width]`` that belong to any tasks ``[n]``."""
        # A shared head is head 0 of every task.
        head = task_id if self.num_heads > 1 else torch.zeros_like(task_id)
        weight = views["head.weight"][:, head]
        bias = views["head.bias"][:, head]
        return torch.einsum("knh,knoh->kno", hidden, weight) + bias


def take_rows(index: Tensor, *fields: Tensor) -> list[Tensor]:
    """Each of ``fields`` ``[S, T, n, ...]`` at ``index`` ``[S, T, m]``."""
    seeds, tasks, count = fields[0].shape[:3]
    group = torch.arange(seeds * tasks, device=index.device)
    start = group.view(seeds, tasks, 1) * count
    place = (index + start).flatten()
    taken = []
    for field in fields:
        rows = field.flatten(0, 2).index_select(0, place)
        taken.append(rows.view(*index.shape, *field.shape[3:]))
    return taken


def flatten_gradients(grads: Sequence[Tensor]) -> Tensor:
    """Gradients ``[K, ...]``, in the order of the layout, as one ``[K, P]`` float32."""
    rows = [grad.flatten(1) for grad in grads]
    return torch.cat(rows, 1).float()


def _split(flat: Tensor, shapes: dict[str, tuple[int, ...]]) -> Views:
    sizes = [math.prod(shape) for shape in shapes.values()]
    pieces = flat.split(sizes, 1)
    views = {}
    for (name, shape), piece in zip(shapes.items(), pieces):
        views[name] = piece.view(len(piece), *shape)
    return views
