"""The MiniGrid encoder on a CPU as one autograd function that computes each distinct row and patch once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mtrl.agents.errors import AgentError
from mtrl.agents.networks.seen import UNKNOWN, Seen, Sizes, arrays_of, constants_of


class EncodeGrid(torch.autograd.Function):
    """Features ``[K, T, b, F]`` of observations ``[S, T, b, D]``, in the dtype of the weights.

    Inputs: the observations, the fields of a ``GridLayout``, then weight and bias of the convolutions over the view and
    over the mission (None without missions), ``[K, 1, out, in]`` and ``[K, 1, out]``, or expanded over tasks, whose
    gradients then come out per task. All sums are float32.
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
        limits, numbers = constants_of(sizes, dtype)
        words = sizes[4]
        vocabulary = sizes[5]

        patches = torch.empty(
            members,
            len(seen.patches),
            channels,
            dtype=dtype,
        )
        add_patches(*arrays_of(seen.patches, view, view_bias, patches))
        said = torch.empty(
            members,
            len(seen.missions),
            channels if words else 0,
            dtype=dtype,
        )
        if words:
            tables = arrays_of(seen.missions, mission, mission_bias)
            add_missions(*tables, vocabulary, *arrays_of(said))

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
            *arrays_of(rows, ids, spoken),
            limits,
            *arrays_of(patches, said),
            numbers,
            *arrays_of(out),
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
        groups = weight_shape[1]
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
            tuple(arrays_of(ids, spoken, patches, missions)),
            tuple(arrays_of(*known)),
            constants_of(ctx.sizes)[0],
            *arrays_of(slope),
            tuple(arrays_of(*found)),
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
    limits, numbers = constants_of(sizes, dtype)
    rows = x.contiguous().view(seeds, -1, width)
    known = grid_kernels.encode_few(
        *arrays_of(rows),
        limits,
        tuple(arrays_of(*tables)),
        numbers,
        *arrays_of(out),
    )
    if not known:
        raise AgentError(UNKNOWN)
    return out.view(members, tasks, batch, -1)


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

    # Without the axis of tasks that they may be expanded over.
    shared = [param[:, 0].float().contiguous() for param in params if param is not None]
    weight = shared[0]
    bias = shared[1]
    objects, colors, states, _, words, _ = sizes
    members, channels = bias.shape
    table = torch.empty(members, 9 * objects * colors * states, channels)
    by_input = weight.transpose(1, 2).contiguous()
    fill_table(*arrays_of(by_input), constants_of(sizes)[0], *arrays_of(table))
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
