"""The MiniGrid encoder on a CPU as one autograd function, and work done once for rows that repeat."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.errors import AgentError

BLOCK = 64
FEW = 256  # rows below which it does not pay to look for repeated ones
Sizes = tuple[int, ...]


class Seen(NamedTuple):
    """Observations with what can be known of them before any network looks: computed once, used by several.

    Attributes:
        rows: uint8 ``[S, T, b, D]``; where ``inverse`` is given, ``[1, 1, r, D]`` without repetitions.
        ids: which patch is at each place, int32 ``[S, T, b, 9]``.
        patches: rows of the view's table that each distinct patch adds up, int32 ``[P, 9]``.
        inverse: int64 ``[T, b]``, which row each observation is.
    """

    rows: Tensor
    ids: Tensor
    patches: Tensor
    inverse: Tensor | None = None

    def repeated(self) -> Seen:
        """The same with every row where it was, task-major."""
        if self.inverse is None:
            return self
        rows, ids = (field[0, 0][self.inverse][None] for field in (self.rows, self.ids))
        return Seen(rows, ids, self.patches)


class EncodeGrid(torch.autograd.Function):
    """Features ``[K, T, b, F]`` of observations ``[S, T, b, D]``, in the dtype of the weights.

    Inputs: the observations, the fields of a ``GridLayout``, the codes of its cells ``[C, cell]`` float32, then weight
    and bias of the convolutions over the view and over the mission (``None`` without missions), ``[K, out, in]`` and
    ``[K, out]``, or expanded over tasks, whose gradients then come out per task. Sums are float32, and so are the
    gradients before they take the dtype of the weights.
    """

    @staticmethod
    def forward(ctx: Any, seen: Seen, sizes: Sizes, codes: Tensor, *params: Tensor | None) -> Tensor:
        from agents.grid_kernels import add_patches, write_features  # compiled code that only MiniGrid needs

        seeds, tasks, batch, width = seen.rows.shape
        shared = [_shared(param, ndim).float() for param, ndim in zip(params, (3, 2, 3, 2)) if param is not None]
        members, channels = shared[1].shape
        view, view_bias, mission, mission_bias = _tables(shared, codes, sizes)
        patches = torch.empty(members, len(seen.patches), channels)
        add_patches(*_arrays(seen.patches, view, view_bias, patches))
        features = 9 * channels + (channels if sizes[4] else 0) + sizes[3] + width - (148 + sizes[4])
        out = torch.empty(members, tasks * batch, features)
        rows, ids = seen.rows.view(seeds, -1, width), seen.ids.view(seeds, -1, 9)
        write_features(*_arrays(rows, ids), np.array(sizes), *_arrays(patches, mission, mission_bias, out))
        ctx.save_for_backward(*seen[:3], codes, patches, mission, mission_bias)
        ctx.sizes, ctx.params = sizes, [None if p is None else (p.shape, p.dtype) for p in params]
        return out.view(members, tasks, batch, features).to(ctx.params[0][1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from agents.grid_kernels import mission_backward, view_backward

        rows, ids, patches, codes, seen, mission, mission_bias = ctx.saved_tensors
        shape = ctx.params[0][0]
        members, groups, channels = shape[0], shape[1] if len(shape) == 4 else 1, shape[-2]
        rows, ids = (x.view(x.shape[0], groups, -1, x.shape[-1]) for x in (rows, ids))
        slope = grads[0].float().contiguous().view(members, groups, rows.shape[2], -1)
        view = torch.zeros(members, groups, 9 * len(codes), channels)
        said = torch.zeros(members, groups, mission.shape[1], channels)
        view_bias, said_bias = torch.zeros(2, members, groups, channels)
        view_backward(*_arrays(ids, patches, seen, slope, view, view_bias))
        if ctx.sizes[4]:
            arrays = _arrays(mission, mission_bias, slope, said, said_bias)
            mission_backward(rows.numpy(), np.array(ctx.sizes), *arrays)
        by_code = (codes.T @ view.view(members, groups, 9, -1, channels)).flatten(2, 3)
        found = (by_code.transpose(2, 3), view_bias, said.transpose(2, 3), said_bias)
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
        x, inverse = x.flatten(0, 2).index_select(0, first)[None, None], inverse.view(shape)
    x = x.contiguous()
    ids, patches = (torch.empty(*lead, 9, dtype=torch.int32) for lead in (x.shape[:3], (9 * x.shape[:3].numel(),)))
    count = find_patches(x.flatten(0, 2).numpy(), np.array(sizes), ids.flatten(0, 2).numpy(), patches.numpy())
    if count < 0:
        raise AgentError("observation: a byte is not below the number of its categories")
    return Seen(x, ids, patches[:count], inverse)


def distinct(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Where each distinct row of ``[n, D]`` uint8 comes first, int64 ``[r]``, and which of these each row is ``[n]``.

    Row 0 fills up the former to a multiple of ``BLOCK``: products compile code for every number of rows they meet.
    """
    from agents.grid_kernels import find_distinct

    first, inverse = torch.zeros(len(rows) + BLOCK, dtype=torch.int64), torch.empty(len(rows), dtype=torch.int64)
    count = find_distinct(rows.contiguous().numpy(), first.numpy(), inverse.numpy())
    return first[: -(-count // BLOCK) * BLOCK], inverse


def _arrays(*tensors: Tensor) -> list[NDArray]:
    return [tensor.detach().numpy() for tensor in tensors]


def _shared(param: Tensor, ndim: int) -> Tensor:
    """A parameter without the task axis that it may be expanded over."""
    return (param if param.dim() == ndim else param[:, 0]).detach()


def _tables(shared: list[Tensor], codes: Tensor, sizes: Sizes) -> list[Tensor]:
    """Table and bias of the view, then of the mission, as ``encode`` takes them; empty ones without missions."""
    view, view_bias = shared[:2]
    members, channels = view_bias.shape
    by_position = view.view(members, channels, 9, -1).permute(0, 2, 3, 1)
    tables = [(codes @ by_position).view(members, -1, channels), view_bias.contiguous()]
    if not sizes[4]:
        return [*tables, view.new_zeros(members, 0, channels), view.new_zeros(members, channels)]
    return [*tables, shared[2].transpose(1, 2).contiguous(), shared[3].contiguous()]
