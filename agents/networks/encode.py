"""The MiniGrid encoder on a CPU as one autograd function, and work done once for rows that repeat."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtrl.agents.errors import AgentError
from mtrl.agents.networks.network import take_rows

BLOCK = 64
FEW = 256  # rows below which it does not pay to look for repeated ones
TABLES = (
    "trunk.view.table",
    "trunk.view.table.bias",
    "trunk.words.table",
    "trunk.words.table.bias",
)
"""Names among the views of what ``encoder_tables`` returns, where it is filled ahead of the inputs."""
UNKNOWN = "observation: a byte is not below the number of its categories"
Sizes = tuple[int, ...]


class Seen(NamedTuple):
    """Observations with what can be known of them before any network looks: computed once, used by several.

    Attributes:
        rows: uint8 ``[S, T, b, D]``; where ``inverse`` is given, ``[1, 1, r, D]`` without repetitions.
        ids: which patch is at each place, int32 ``[S, T, b, 9]``.
        spoken: which mission each row has, int64 ``[S, T, b]``.
        patches: rows of the view's table that each distinct patch adds up, int32 ``[P, 9]``.
        missions: the distinct missions, uint8 ``[M, W]``.
        inverse: int64 ``[T, b]``, which row each observation is.
    """

    rows: Tensor
    ids: Tensor
    spoken: Tensor
    patches: Tensor
    missions: Tensor
    inverse: Tensor | None = None

    def repeated(self) -> Seen:
        """The same with every row where it was, task-major."""
        if self.inverse is None:
            return self
        rows, ids, spoken = (field[0, 0][self.inverse][None] for field in self[:3])
        return Seen(rows, ids, spoken, self.patches, self.missions)

    def take(self, index: Tensor) -> Seen:
        """The observations at ``index`` ``[S, T, m]``, as if only they had been looked at."""
        if self.inverse is None:
            rows, ids, spoken = take_rows(index, *self[:3])
            inverse = None
        else:
            picks = self.inverse.gather(1, index[0])
            used = _fill_up(_renumber(picks, self.rows.shape[2]))
            rows, ids, spoken = (field.index_select(2, used) for field in self[:3])
            inverse = picks
        patches = self.patches.index_select(0, _renumber(ids, len(self.patches)))
        return Seen(rows, ids, spoken, patches, self.missions, inverse)


class EncodeGrid(torch.autograd.Function):
    """Features ``[K, T, b, F]`` of observations ``[S, T, b, D]``, in the dtype of the weights.

    Inputs: the observations, the fields of a ``GridLayout``, then weight and bias of the convolutions over the view and
    over the mission (None without missions), ``[K, out, in]`` and ``[K, out]``, or expanded over tasks, whose gradients
    then come out per task. All sums are float32.
    """

    @staticmethod
    def forward(ctx: Any, seen: Seen, sizes: Sizes, *params: Tensor | None) -> Tensor:
        from mtrl.agents.networks.grid_kernels import (  # only MiniGrid needs compiled code
            add_missions,
            add_patches,
            write_features,
        )

        seeds, tasks, batch, width = seen.rows.shape
        view, view_bias, mission, mission_bias = encoder_tables(params, sizes)
        members, channels = view_bias.shape
        dtype = params[0].dtype  # type: ignore[union-attr]
        limits, numbers = _constants(sizes, dtype)
        patches = torch.empty(members, len(seen.patches), channels, dtype=dtype)
        said = torch.empty(members, len(seen.missions), channels if sizes[4] else 0, dtype=dtype)
        add_patches(*_arrays(seen.patches, view, view_bias, patches))
        if sizes[4]:
            add_missions(*_arrays(seen.missions, mission, mission_bias), sizes[5], *_arrays(said))
        features = _num_features(channels, width, sizes)
        out = torch.empty(members, tasks * batch, features, dtype=dtype)
        rows, ids, spoken = (
            seen.rows.view(seeds, -1, width),
            seen.ids.view(seeds, -1, 9),
            seen.spoken.view(seeds, -1),
        )
        write_features(
            *_arrays(rows, ids, spoken), limits, *_arrays(patches, said), numbers, *_arrays(out)
        )
        ctx.save_for_backward(*seen[1:5], patches, mission, mission_bias)
        ctx.sizes, ctx.params = sizes, [None if p is None else (p.shape, p.dtype) for p in params]
        return out.view(members, tasks, batch, features)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from mtrl.agents.networks.grid_kernels import encode_backward

        ids, spoken, table, missions, *known = ctx.saved_tensors
        shape = ctx.params[0][0]
        members, groups, channels = shape[0], shape[1] if len(shape) == 4 else 1, shape[-2]
        ids, spoken = ids.view(len(ids), groups, -1, 9), spoken.view(len(ids), groups, -1)
        slope = grads[0].contiguous().view(members, groups, ids.shape[2], -1)
        found = [
            torch.zeros(members, groups, *size) for size in ((shape[-1], channels), (channels,))
        ]
        found += [
            torch.zeros(members, groups, *size)
            for size in ((known[1].shape[1], channels), (channels,))
        ]
        looked, to = tuple(_arrays(ids, spoken, table, missions)), tuple(_arrays(*found))
        encode_backward(
            looked, tuple(_arrays(*known)), _constants(ctx.sizes)[0], *_arrays(slope), to
        )
        found[::2] = [grad.transpose(2, 3) for grad in found[::2]]
        wanted = (
            None if like is None else grad.reshape(like[0]).to(like[1]).contiguous()
            for grad, like in zip(found, ctx.params)
        )
        return None, None, *wanted


class Spread(torch.autograd.Function):
    """Rows ``inverse`` ``[n]`` of ``[K, r, W]`` as ``[K, n, W]``; gradients of rows that repeat are added up."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        ctx.shape = rows.shape
        return rows.index_select(1, inverse)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from mtrl.agents.networks.row_kernels import sum_rows

        (inverse,) = ctx.saved_tensors
        out = torch.zeros(ctx.shape)
        sum_rows(grads[0].contiguous().numpy(), inverse.numpy(), out.numpy())
        return out, None


class SpreadHeads(torch.autograd.Function):
    """``Spread`` and then the linear heads ``[K, H, out, W]`` and ``[K, H, out]``, one a task or one for all, without
    writing the rows that repeat: ``[K, T, b, out]`` of ``rows`` ``[K, r, W]`` and ``inverse`` ``[T, b]``."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, inverse: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        rows, weight = rows.contiguous(), weight.contiguous()
        ctx.save_for_backward(rows, inverse, weight)
        return spread_heads(rows, inverse, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from mtrl.agents.networks.row_kernels import heads_backward

        rows, inverse, weight = ctx.saved_tensors
        to_rows, to_weight, to_bias = (
            torch.zeros(shape) for shape in (rows.shape, weight.shape, weight.shape[:3])
        )
        to = tuple(_arrays(to_rows, to_weight, to_bias))
        heads_backward(*_arrays(rows, inverse, weight, grads[0].contiguous()), to)
        return to_rows, None, to_weight, to_bias


def spread_heads(rows: Tensor, inverse: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``SpreadHeads`` where no gradients are asked for."""
    from mtrl.agents.networks.row_kernels import apply_heads

    out = torch.empty(len(rows), *inverse.shape, weight.shape[2])
    apply_heads(*_arrays(rows.contiguous(), inverse, weight.contiguous(), bias.contiguous(), out))
    return out


def encode_few(x: Tensor, sizes: Sizes, tables: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """``EncodeGrid`` of observations ``[S, T, b, D]`` where no gradients are asked for, in one call: for few rows, each
    on its own, and ``encoder_tables`` filled ahead.

    Raises:
        AgentError: as ``look``.
    """
    from mtrl.agents.networks import grid_kernels

    seeds, tasks, batch, width = x.shape
    members, channels = tables[1].shape
    out = torch.empty(members, tasks * batch, _num_features(channels, width, sizes), dtype=dtype)
    limits, numbers = _constants(sizes, dtype)
    rows = x.contiguous().view(seeds, -1, width)
    if not grid_kernels.encode_few(
        *_arrays(rows), limits, tuple(_arrays(*tables)), numbers, *_arrays(out)
    ):
        raise AgentError(UNKNOWN)
    return out.view(members, tasks, batch, -1)


def look(x: Tensor, sizes: Sizes) -> Seen:
    """Observations ``[S, T, b, D]`` uint8 as networks on a CPU read them. Much of a rollout is seen again and again, so
    rows that repeat are computed once, if there are many and of one seed.

    Raises:
        AgentError: a byte is not below the number of its categories.
    """
    from mtrl.agents.networks.grid_kernels import find_patches

    inverse, shape = None, x.shape[1:3]
    if x.shape[0] == 1 and shape.numel() >= FEW:
        first, inverse = distinct(x.flatten(0, 2))
        first = _fill_up(first)
        x, inverse = x.flatten(0, 2).index_select(0, first)[None, None], inverse.view(shape)
    x = x.contiguous()
    ids, patches = (
        torch.empty(*lead, 9, dtype=torch.int32)
        for lead in (x.shape[:3], (9 * x.shape[:3].numel(),))
    )
    count = find_patches(
        x.flatten(0, 2).numpy(), _constants(sizes)[0], ids.flatten(0, 2).numpy(), patches.numpy()
    )
    if count < 0:
        raise AgentError(UNKNOWN)
    missions = x[..., 148 : 148 + sizes[4]].flatten(0, 2)
    spoken = torch.arange(len(missions))
    if len(missions) >= FEW:
        first, spoken = distinct(missions)
        missions = missions[first]
    return Seen(x, ids, spoken.view(x.shape[:3]), patches[:count], missions.contiguous(), inverse)


def distinct(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Where each distinct row of ``[n, D]`` uint8 comes first, int64 ``[r]``, and which of these each is ``[n]``."""
    from mtrl.agents.networks.grid_kernels import find_distinct

    first, inverse = (torch.empty(len(rows), dtype=torch.int64) for _ in range(2))
    count = find_distinct(rows.contiguous().numpy(), first.numpy(), inverse.numpy())
    return first[:count], inverse


def _renumber(picks: Tensor, size: int) -> Tensor:
    """The distinct values of ``picks`` ``[...]``, which are below ``size``; each pick becomes its place in there."""
    from mtrl.agents.networks.row_kernels import renumber

    kept = torch.empty(min(picks.numel(), size), dtype=torch.int64)
    count = renumber(picks.view(-1).numpy(), np.full(size, -1, np.int64), kept.numpy())
    return kept[:count]


def _fill_up(rows: Tensor) -> Tensor:
    """``rows`` ``[r]``, and the first of them until they are a multiple of ``BLOCK``: products compile code for every
    number of rows that they meet."""
    return torch.cat([rows, rows[:1].expand(-len(rows) % BLOCK)])


def _arrays(*tensors: Tensor) -> list[NDArray]:
    """Arrays that share the tensors' memory; bfloat16 as the uint16 that hold its bits."""
    return [_array(tensor.detach() if tensor.requires_grad else tensor) for tensor in tensors]


def _array(tensor: Tensor) -> NDArray:
    array: NDArray = (
        tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor
    ).numpy()
    return array


@cache
def _constants(sizes: Sizes, dtype: torch.dtype = torch.float32) -> tuple[NDArray, NDArray]:
    """A layout's fields as an array, and the numbers 0 to 255 as features are written."""
    return np.array(sizes), _array(torch.arange(256, dtype=dtype))


def _shared(param: Tensor, ndim: int) -> Tensor:
    """A parameter as float32, without the task axis that it may be expanded over."""
    return (param if param.dim() == ndim else param[:, 0]).float()


def encoder_tables(
    params: Sequence[Tensor | None], sizes: Sizes
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the encoder adds up, float32, from weights and biases as ``EncodeGrid`` takes them.

    Returns:
        What each code at each position of a patch adds, ``[K, 9 * codes, channels]``, and the bias ``[K, channels]``;
        what each word at each position of a window adds, ``[K, 3 * vocabulary, channels]``, and the bias. Without
        missions the third is empty.
    """
    from mtrl.agents.networks.grid_kernels import fill_table

    shared = [
        _shared(param, ndim).contiguous()
        for param, ndim in zip(params, (3, 2, 3, 2))
        if param is not None
    ]
    weight, bias = shared[:2]
    table = torch.empty(len(weight), 9 * sizes[0] * sizes[1] * sizes[2], weight.shape[1])
    fill_table(*_arrays(weight.transpose(1, 2).contiguous()), _constants(sizes)[0], *_arrays(table))
    if not sizes[4]:
        return table, bias, bias.new_zeros(len(bias), 0, bias.shape[1]), torch.zeros_like(bias)
    return table, bias, shared[2].transpose(1, 2).contiguous(), shared[3]


def _num_features(channels: int, width: int, sizes: Sizes) -> int:
    """Features of an observation of ``width`` bytes: patches, mission, the direction's code, further columns."""
    return (10 if sizes[4] else 9) * channels + sizes[3] + width - (148 + sizes[4])
