"""The MiniGrid encoder on a CPU as one autograd function that computes each distinct row and patch once."""

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
"""Names of the results of ``encoder_tables`` among the views, where ``constants`` has computed them ahead."""
UNKNOWN = "observation: a byte is not below the number of its categories"
Sizes = tuple[int, ...]


class Seen(NamedTuple):
    """Grid observations with their repeated rows and patches already indexed.

    The index does not depend on weights, so all networks of one layout (actor and critic) share it.

    Attributes:
        rows: uint8 ``[S, T, b, D]``; where ``inverse`` is given, ``[1, 1, r, D]`` without repetitions.
        ids: number of the patch at each place, int32 ``[S, T, b, 9]``.
        spoken: number of each row's mission, int64 ``[S, T, b]``.
        patches: the rows of the view's table that each distinct patch sums, int32 ``[P, 9]``.
        missions: the distinct missions, uint8 ``[M, W]``.
        inverse: the row of each observation, int64 ``[T, b]``; None if no repetitions were left out.
    """

    rows: Tensor
    ids: Tensor
    spoken: Tensor
    patches: Tensor
    missions: Tensor
    inverse: Tensor | None = None

    def repeated(self) -> Seen:
        """The same observations with repeated rows written out, task-major."""
        if self.inverse is None:
            return self
        return Seen(
            self.rows[0, 0][self.inverse][None],
            self.ids[0, 0][self.inverse][None],
            self.spoken[0, 0][self.inverse][None],
            self.patches,
            self.missions,
        )

    def take(self, index: Tensor) -> Seen:
        """The observations at ``index`` ``[S, T, m]``, as if ``look`` had been given only them."""
        if self.inverse is None:
            inverse = None
            rows, ids, spoken = take_rows(index, self.rows, self.ids, self.spoken)
        else:
            # ``_renumber`` changes the picks in place; ``gather`` has made a copy.
            inverse = self.inverse.gather(1, index[0])
            used = _renumber(inverse, self.rows.shape[2])
            used = _fill_up(used)
            rows = self.rows.index_select(2, used)
            ids = self.ids.index_select(2, used)
            spoken = self.spoken.index_select(2, used)
        used_patches = _renumber(ids, len(self.patches))
        patches = self.patches.index_select(0, used_patches)
        return Seen(rows, ids, spoken, patches, self.missions, inverse)


class EncodeGrid(torch.autograd.Function):
    """Features ``[K, T, b, F]`` of observations ``[S, T, b, D]``, in the dtype of the weights.

    Inputs: the observations, the fields of a ``GridLayout``, then weight and bias of the convolutions over the view and
    over the mission (None without missions), ``[K, out, in]`` and ``[K, out]``, or expanded over tasks, whose gradients
    then come out per task. All sums are float32.
    """

    @staticmethod
    def forward(ctx: Any, seen: Seen, sizes: Sizes, *params: Tensor | None) -> Tensor:
        # Imported here because only MiniGrid needs compiled code.
        from mtrl.agents.networks.grid_kernels import (
            add_missions,
            add_patches,
            write_features,
        )

        seeds, tasks, batch, width = seen.rows.shape
        view, view_bias, mission, mission_bias = encoder_tables(params, sizes)
        members, channels = view_bias.shape
        dtype = params[0].dtype  # type: ignore[union-attr]
        limits, numbers = _constants(sizes, dtype)
        words = sizes[4]
        vocabulary = sizes[5]

        patches = torch.empty(
            members,
            len(seen.patches),
            channels,
            dtype=dtype,
        )
        add_patches(*_arrays(seen.patches, view, view_bias, patches))
        said = torch.empty(
            members,
            len(seen.missions),
            channels if words else 0,
            dtype=dtype,
        )
        if words:
            tables = _arrays(seen.missions, mission, mission_bias)
            add_missions(*tables, vocabulary, *_arrays(said))

        num_features = _num_features(channels, width, sizes)
        out = torch.empty(
            members,
            tasks * batch,
            num_features,
            dtype=dtype,
        )
        rows = seen.rows.view(seeds, -1, width)
        ids = seen.ids.view(seeds, -1, 9)
        spoken = seen.spoken.view(seeds, -1)
        write_features(
            *_arrays(rows, ids, spoken),
            limits,
            *_arrays(patches, said),
            numbers,
            *_arrays(out),
        )
        ctx.save_for_backward(
            seen.ids,
            seen.spoken,
            seen.patches,
            seen.missions,
            patches,
            mission,
            mission_bias,
        )
        ctx.sizes = sizes
        ctx.params = [None if param is None else (param.shape, param.dtype) for param in params]
        return out.view(members, tasks, batch, num_features)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from mtrl.agents.networks.grid_kernels import encode_backward

        ids, spoken, patches, missions, *known = ctx.saved_tensors
        _, mission, _ = known
        weight_shape, _ = ctx.params[0]
        members = weight_shape[0]
        groups = weight_shape[1] if len(weight_shape) == 4 else 1
        channels, fan_in = weight_shape[-2:]
        seeds = len(ids)
        ids = ids.view(seeds, groups, -1, 9)
        spoken = spoken.view(seeds, groups, -1)
        slope = (
            grads[0]
            .contiguous()
            .view(
                members,
                groups,
                ids.shape[2],
                -1,
            )
        )

        # The kernel adds whole rows of channels, so gradients of weights are transposed, [in, out].
        found = [
            torch.zeros(members, groups, fan_in, channels),
            torch.zeros(members, groups, channels),
            torch.zeros(members, groups, mission.shape[1], channels),
            torch.zeros(members, groups, channels),
        ]
        encode_backward(
            tuple(_arrays(ids, spoken, patches, missions)),
            tuple(_arrays(*known)),
            _constants(ctx.sizes)[0],
            *_arrays(slope),
            tuple(_arrays(*found)),
        )
        to_view, to_view_bias, to_mission, to_mission_bias = found
        by_param = [
            to_view.transpose(2, 3),
            to_view_bias,
            to_mission.transpose(2, 3),
            to_mission_bias,
        ]
        wanted: list[Tensor | None] = []
        for grad, like in zip(by_param, ctx.params):
            if like is None:
                wanted.append(None)
                continue
            shape, dtype = like
            wanted.append(grad.reshape(shape).to(dtype).contiguous())
        return None, None, *wanted


class Spread(torch.autograd.Function):
    """Rows ``inverse`` ``[n]`` of ``[K, r, W]`` as ``[K, n, W]``; gradients of repeated rows are summed."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        ctx.shape = rows.shape
        return rows.index_select(1, inverse)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from mtrl.agents.networks.row_kernels import sum_rows

        (inverse,) = ctx.saved_tensors
        grad = grads[0].contiguous()
        out = torch.zeros(ctx.shape)
        sum_rows(grad.numpy(), inverse.numpy(), out.numpy())
        return out, None


class SpreadHeads(torch.autograd.Function):
    """``Spread`` followed by linear heads, without writing the repeated rows.

    Inputs: ``rows`` ``[K, r, W]``, ``inverse`` ``[T, b]``, weights ``[K, H, out, W]`` and biases ``[K, H, out]`` of one
    head a task or one for all. Output: ``[K, T, b, out]``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        inverse: Tensor,
        weight: Tensor,
        bias: Tensor,
    ) -> Tensor:
        # The kernels take contiguous arrays only.
        rows = rows.contiguous()
        weight = weight.contiguous()
        ctx.save_for_backward(rows, inverse, weight)
        return spread_heads(rows, inverse, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from mtrl.agents.networks.row_kernels import heads_backward

        rows, inverse, weight = ctx.saved_tensors
        to_rows = torch.zeros(rows.shape)
        to_weight = torch.zeros(weight.shape)
        to_bias = torch.zeros(weight.shape[:3])
        heads_backward(
            *_arrays(rows, inverse, weight, grads[0].contiguous()),
            tuple(_arrays(to_rows, to_weight, to_bias)),
        )
        return to_rows, None, to_weight, to_bias


def spread_heads(
    rows: Tensor,
    inverse: Tensor,
    weight: Tensor,
    bias: Tensor,
) -> Tensor:
    """``SpreadHeads`` where no gradients are asked for."""
    from mtrl.agents.networks.row_kernels import apply_heads

    out = torch.empty(len(rows), *inverse.shape, weight.shape[2])
    apply_heads(
        *_arrays(
            rows.contiguous(),
            inverse,
            weight.contiguous(),
            bias.contiguous(),
            out,
        )
    )
    return out


def encode_few(
    x: Tensor,
    sizes: Sizes,
    tables: Sequence[Tensor],
    dtype: torch.dtype,
) -> Tensor:
    """``EncodeGrid`` of a few observations ``[S, T, b, D]`` in one call, without gradients or search for repetitions.

    Args:
        tables: what ``encoder_tables`` returned.

    Raises:
        AgentError: as ``look``.
    """
    from mtrl.agents.networks import grid_kernels

    seeds, tasks, batch, width = x.shape
    members, channels = tables[1].shape
    num_features = _num_features(channels, width, sizes)
    out = torch.empty(
        members,
        tasks * batch,
        num_features,
        dtype=dtype,
    )
    limits, numbers = _constants(sizes, dtype)
    rows = x.contiguous().view(seeds, -1, width)
    known = grid_kernels.encode_few(
        *_arrays(rows),
        limits,
        tuple(_arrays(*tables)),
        numbers,
        *_arrays(out),
    )
    if not known:
        raise AgentError(UNKNOWN)
    return out.view(members, tasks, batch, -1)


def look(x: Tensor, sizes: Sizes) -> Seen:
    """Index the distinct rows, patches and missions of observations ``[S, T, b, D]`` uint8, on a CPU.

    Much of a rollout repeats, so each distinct row is computed once, if there are many rows and one seed.

    Raises:
        AgentError: a byte is not below the number of its categories.
    """
    from mtrl.agents.networks.grid_kernels import find_patches

    inverse = None
    observations = x.shape[1:3]
    # With several seeds the distinct rows would differ in number, and could not be stacked.
    if x.shape[0] == 1 and observations.numel() >= FEW:
        flat = x.flatten(0, 2)
        first, row_of = distinct(flat)
        first = _fill_up(first)
        x = flat.index_select(0, first)[None, None]
        inverse = row_of.view(observations)
    x = x.contiguous()
    rows = x.flatten(0, 2)
    ids = torch.empty(*x.shape[:3], 9, dtype=torch.int32)
    patches = torch.empty(9 * len(rows), 9, dtype=torch.int32)
    count = find_patches(
        rows.numpy(),
        _constants(sizes)[0],
        ids.flatten(0, 2).numpy(),
        patches.numpy(),
    )
    if count < 0:
        raise AgentError(UNKNOWN)

    words = sizes[4]
    missions = x[..., 148 : 148 + words].flatten(0, 2)
    spoken = torch.arange(len(missions))
    if len(missions) >= FEW:
        first, spoken = distinct(missions)
        missions = missions[first]
    return Seen(
        x,
        ids,
        spoken.view(x.shape[:3]),
        patches[:count],
        missions.contiguous(),
        inverse,
    )


def distinct(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Find the distinct rows of ``[n, D]`` uint8.

    Returns:
        The index at which each distinct row comes first, int64 ``[r]``, and the number of each row's distinct row,
        int64 ``[n]``.
    """
    from mtrl.agents.networks.grid_kernels import find_distinct

    first = torch.empty(len(rows), dtype=torch.int64)
    inverse = torch.empty(len(rows), dtype=torch.int64)
    count = find_distinct(rows.contiguous().numpy(), first.numpy(), inverse.numpy())
    return first[:count], inverse


def _renumber(picks: Tensor, size: int) -> Tensor:
    """The distinct values of ``picks`` ``[...]``, all below ``size``.

    ``picks`` changes in place: each value becomes its position among the distinct ones.
    """
    from mtrl.agents.networks.row_kernels import renumber

    kept = torch.empty(min(picks.numel(), size), dtype=torch.int64)
    numbers = np.full(size, -1, np.int64)
    count = renumber(picks.view(-1).numpy(), numbers, kept.numpy())
    return kept[:count]


def _fill_up(rows: Tensor) -> Tensor:
    """``rows`` ``[r]``, padded with the first of them to a multiple of ``BLOCK``.

    Matrix products compile code for every number of rows that they meet.
    """
    missing = -len(rows) % BLOCK
    padding = rows[:1].expand(missing)
    return torch.cat([rows, padding])


def _arrays(*tensors: Tensor) -> list[NDArray]:
    """Arrays that share the tensors' memory; bfloat16 as the uint16 that hold its bits."""
    arrays = []
    for tensor in tensors:
        # ``numpy`` refuses tensors that require gradients.
        known = tensor.detach() if tensor.requires_grad else tensor
        arrays.append(_array(known))
    return arrays


def _array(tensor: Tensor) -> NDArray:
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.uint16)
    array: NDArray = tensor.numpy()
    return array


@cache
def _constants(sizes: Sizes, dtype: torch.dtype = torch.float32) -> tuple[NDArray, NDArray]:
    """A layout's fields as an array, and the numbers 0 to 255 as features are written."""
    numbers = torch.arange(256, dtype=dtype)
    return np.array(sizes), _array(numbers)


def _shared(param: Tensor, ndim: int) -> Tensor:
    """A parameter as contiguous float32, without the task axis that it may be expanded over."""
    shared = param if param.dim() == ndim else param[:, 0]
    return shared.float().contiguous()


def encoder_tables(
    params: Sequence[Tensor | None],
    sizes: Sizes,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The float32 tables whose rows the encoder sums, from weights and biases as ``EncodeGrid`` takes them.

    Returns:
        The view's table ``[K, 9 * codes, channels]``, one row per position of a patch and code, and its bias
        ``[K, channels]``; the mission's table ``[K, 3 * vocabulary, channels]``, one row per position of a window and
        word, and its bias. Without missions the third is empty.
    """
    from mtrl.agents.networks.grid_kernels import fill_table

    dims = (3, 2, 3, 2)
    shared = [_shared(param, dim) for param, dim in zip(params, dims) if param is not None]
    weight = shared[0]
    bias = shared[1]
    objects, colors, states, _, words, _ = sizes
    members, channels = bias.shape
    table = torch.empty(members, 9 * objects * colors * states, channels)
    by_input = weight.transpose(1, 2).contiguous()
    fill_table(*_arrays(by_input), _constants(sizes)[0], *_arrays(table))
    if not words:
        no_missions = bias.new_zeros(members, 0, channels)
        return table, bias, no_missions, torch.zeros_like(bias)
    missions = shared[2].transpose(1, 2).contiguous()
    return table, bias, missions, shared[3]


def _num_features(channels: int, width: int, sizes: Sizes) -> int:
    """Features of an observation of ``width`` bytes: patches, mission, the direction's code, further columns."""
    directions, words = sizes[3:5]
    convolved = 10 if words else 9
    further = width - (148 + words)
    return convolved * channels + directions + further
