"""The MiniGrid encoder on a CPU as one autograd function, and work done once for rows that repeat."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.errors import AgentError
from agents.networks import take_rows

BLOCK = 64
FEW = 256  # rows below which it does not pay to look for repeated ones
TABLE = "trunk.view.table"
"""Name among the views of the view's table, where it is filled ahead of the inputs."""
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

    Inputs: the observations, the fields of a ``GridLayout``, the view's table (None to fill it), then weight and bias
    of the convolutions over the view and over the mission (None without missions), ``[K, out, in]`` and ``[K, out]``,
    or expanded over tasks, whose gradients then come out per task. All sums are float32.
    """

    @staticmethod
    def forward(ctx: Any, seen: Seen, sizes: Sizes, view: Tensor | None, *params: Tensor | None) -> Tensor:
        from agents.grid_kernels import add_missions, add_patches, write_features  # only MiniGrid needs compiled code

        seeds, tasks, batch, width = seen.rows.shape
        shared = [_shared(param, ndim) for param, ndim in zip(params, (3, 2, 3, 2)) if param is not None]
        members, channels = shared[1].shape
        view = view_table(shared[0], sizes) if view is None else view
        mission, mission_bias = _mission_table(shared, sizes)
        dtype = params[0].dtype  # type: ignore[union-attr]
        limits, numbers = _constants(sizes, dtype)
        patches = torch.empty(members, len(seen.patches), channels, dtype=dtype)
        said = torch.empty(members, len(seen.missions), channels if sizes[4] else 0, dtype=dtype)
        add_patches(*_arrays(seen.patches, view, shared[1].contiguous(), patches))
        if sizes[4]:
            add_missions(*_arrays(seen.missions, mission, mission_bias), sizes[5], *_arrays(said))
        features = 9 * channels + said.shape[-1] + sizes[3] + width - (148 + sizes[4])
        out = torch.empty(members, tasks * batch, features, dtype=dtype)
        rows, ids, spoken = seen.rows.view(seeds, -1, width), seen.ids.view(seeds, -1, 9), seen.spoken.view(seeds, -1)
        write_features(*_arrays(rows, ids, spoken), limits, *_arrays(patches, said), numbers, *_arrays(out))
        ctx.save_for_backward(*seen[1:5], patches, mission, mission_bias)
        ctx.sizes, ctx.params = sizes, [None if p is None else (p.shape, p.dtype) for p in params]
        return out.view(members, tasks, batch, features)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from agents.grid_kernels import encode_backward

        ids, spoken, table, missions, *known = ctx.saved_tensors
        shape = ctx.params[0][0]
        members, groups, channels = shape[0], shape[1] if len(shape) == 4 else 1, shape[-2]
        ids, spoken = ids.view(len(ids), groups, -1, 9), spoken.view(len(ids), groups, -1)
        slope = grads[0].contiguous().view(members, groups, ids.shape[2], -1)
        found = [torch.zeros(members, groups, *size) for size in ((shape[-1], channels), (channels,))]
        found += [torch.zeros(members, groups, *size) for size in ((known[1].shape[1], channels), (channels,))]
        looked, to = tuple(_arrays(ids, spoken, table, missions)), tuple(_arrays(*found))
        encode_backward(looked, tuple(_arrays(*known)), _constants(ctx.sizes)[0], *_arrays(slope), to)
        found[::2] = [grad.transpose(2, 3) for grad in found[::2]]
        wanted = (
            None if like is None else grad.reshape(like[0]).to(like[1]).contiguous()
            for grad, like in zip(found, ctx.params)
        )
        return None, None, None, *wanted


class Spread(torch.autograd.Function):
    """Rows ``inverse`` ``[n]`` of ``[K, r, W]`` as ``[K, n, W]``; gradients of rows that repeat are added up."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        ctx.shape = rows.shape
        return rows.index_select(1, inverse)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from agents.grid_kernels import sum_rows

        (inverse,) = ctx.saved_tensors
        out = torch.zeros(ctx.shape)
        sum_rows(grads[0].contiguous().numpy(), inverse.numpy(), out.numpy())
        return out, None


class SpreadHeads(torch.autograd.Function):
    """``Spread`` and then the linear heads ``[K, H, out, W]`` and ``[K, H, out]``, one a task or one for all, without
    writing the rows that repeat: ``[K, T, b, out]`` of ``rows`` ``[K, r, W]`` and ``inverse`` ``[T, b]``."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, inverse: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        from agents.grid_kernels import apply_heads

        rows, weight, bias = (tensor.detach().contiguous() for tensor in (rows, weight, bias))
        out = torch.empty(len(rows), *inverse.shape, weight.shape[2])
        apply_heads(*_arrays(rows, inverse, weight, bias, out))
        ctx.save_for_backward(rows, inverse, weight)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from agents.grid_kernels import heads_backward

        rows, inverse, weight = ctx.saved_tensors
        to_rows, to_weight, to_bias = (torch.zeros(shape) for shape in (rows.shape, weight.shape, weight.shape[:3]))
        to = tuple(_arrays(to_rows, to_weight, to_bias))
        heads_backward(*_arrays(rows, inverse, weight, grads[0].contiguous()), to)
        return to_rows, None, to_weight, to_bias


def look(x: Tensor, sizes: Sizes) -> Seen:
    """Observations ``[S, T, b, D]`` uint8 as networks on a CPU read them. Much of a rollout is seen again and again, so
    rows that repeat are computed once, if there are many and of one seed.

    Raises:
        AgentError: a byte is not below the number of its categories.
    """
    from agents.grid_kernels import find_patches

    inverse, shape = None, x.shape[1:3]
    if x.shape[0] == 1 and shape.numel() >= FEW:
        first, inverse = distinct(x.flatten(0, 2))
        first = _fill_up(first)
        x, inverse = x.flatten(0, 2).index_select(0, first)[None, None], inverse.view(shape)
    x = x.contiguous()
    ids, patches = (torch.empty(*lead, 9, dtype=torch.int32) for lead in (x.shape[:3], (9 * x.shape[:3].numel(),)))
    count = find_patches(x.flatten(0, 2).numpy(), _constants(sizes)[0], ids.flatten(0, 2).numpy(), patches.numpy())
    if count < 0:
        raise AgentError("observation: a byte is not below the number of its categories")
    missions = x[..., 148 : 148 + sizes[4]].flatten(0, 2)
    spoken = torch.arange(len(missions))
    if len(missions) >= FEW:
        first, spoken = distinct(missions)
        missions = missions[first]
    return Seen(x, ids, spoken.view(x.shape[:3]), patches[:count], missions.contiguous(), inverse)


def distinct(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Where each distinct row of ``[n, D]`` uint8 comes first, int64 ``[r]``, and which of these each is ``[n]``."""
    from agents.grid_kernels import find_distinct

    first, inverse = (torch.empty(len(rows), dtype=torch.int64) for _ in range(2))
    count = find_distinct(rows.contiguous().numpy(), first.numpy(), inverse.numpy())
    return first[:count], inverse


def _renumber(picks: Tensor, size: int) -> Tensor:
    """The distinct values of ``picks`` ``[...]``, which are below ``size``; each pick becomes its place in there."""
    from agents.grid_kernels import renumber

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
    array: NDArray = (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


@cache
def _constants(sizes: Sizes, dtype: torch.dtype = torch.float32) -> tuple[NDArray, NDArray]:
    """A layout's fields as an array, and the numbers 0 to 255 as features are written."""
    return np.array(sizes), _array(torch.arange(256, dtype=dtype))


def _shared(param: Tensor, ndim: int) -> Tensor:
    """A parameter as float32, without the task axis that it may be expanded over."""
    return (param if param.dim() == ndim else param[:, 0]).float()


def view_table(weight: Tensor, sizes: Sizes) -> Tensor:
    """What each code at each position of a patch adds to its features, ``[K, 9 * codes, channels]`` float32, of the
    convolution's weight ``[K, channels, 9 * cell]``."""
    from agents.grid_kernels import fill_table

    table = torch.empty(len(weight), 9 * sizes[0] * sizes[1] * sizes[2], weight.shape[1])
    fill_table(weight.detach().float().transpose(1, 2).contiguous().numpy(), _constants(sizes)[0], table.numpy())
    return table


def _mission_table(shared: list[Tensor], sizes: Sizes) -> tuple[Tensor, Tensor]:
    """``view_table`` of the mission, which is its weight, and its bias; empty ones without missions."""
    if sizes[4]:
        return shared[2].transpose(1, 2).contiguous(), shared[3].contiguous()
    members, channels = shared[1].shape
    return shared[1].new_zeros(members, 0, channels), shared[1].new_zeros(members, channels)
