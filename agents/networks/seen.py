"""Grid observations with repeated rows and patches indexed, each to be computed once; for a CPU."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtrl.agents.errors import AgentError
from mtrl.agents.networks.encoder import take_rows

BLOCK = 64
FEW = 256  # rows below which it does not pay to look for repeated ones
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
        constants_of(sizes)[0],
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


def arrays_of(*tensors: Tensor) -> list[NDArray]:
    """Arrays that share the tensors' memory; bfloat16 as the uint16 that hold its bits."""
    return [_array(tensor) for tensor in tensors]


def _array(tensor: Tensor) -> NDArray:
    if tensor.requires_grad:
        # ``numpy`` would refuse it.
        tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.uint16)
    array: NDArray = tensor.numpy()
    return array


@cache
def constants_of(sizes: Sizes, dtype: torch.dtype = torch.float32) -> tuple[NDArray, NDArray]:
    """A layout's fields as an array, and the numbers 0 to 255 as features are written."""
    numbers = torch.arange(256, dtype=dtype)
    return np.array(sizes), _array(numbers)
