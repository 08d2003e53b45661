"""MiniGrid observations for stacked networks: categories become one-hot patches, which a convolution reads.

Nothing here is a magnitude: every byte of an observation is looked up. The convolution over the view is the product of
one-hot patches with a weight, computed as a sum of the weight's rows, and its gradients come out per task like those of
the MLP behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple, TypeGuard

import torch
from torch import Tensor

from mtrl.agents.networks.encode import (
    FEW,
    TABLES,
    EncodeGrid,
    Seen,
    Spread,
    SpreadHeads,
    encode_few,
    encoder_tables,
    look,
    spread_heads,
)
from mtrl.agents.networks.lookup import LookupReLU
from mtrl.agents.networks.network import MLP, TASK_SCALE, OwnViews, Recall, Views

SIDE, KERNEL, STRIDE = 7, 3, 2
PATCHES = ((SIDE - KERNEL) // STRIDE + 1) ** 2
WINDOW = 3  # words that the mission's convolution sees at once


class GridLayout(NamedTuple):
    """Categories of one observation row, uint8: a view of 7 x 7 cells (object, color, state), direction, mission.

    Attributes:
        words: length of the mission in token ids (0 is padding); 0 where missions say no more than the task.
        vocabulary: number of token ids, padding included.
    """

    objects: int
    colors: int
    states: int
    directions: int
    words: int
    vocabulary: int

    @property
    def num_bytes(self) -> int:
        return SIDE * SIDE * 3 + 1 + self.words

    @property
    def cell(self) -> int:
        """Columns of one cell's code: object, color and state, one-hot each."""
        return self.objects + self.colors + self.states

    def sizes(self) -> tuple[int, ...]:
        """Number of categories of each byte."""
        view = (self.objects, self.colors, self.states) * (SIDE * SIDE)
        return (*view, self.directions, *[self.vocabulary] * self.words)


MINIGRID = GridLayout(11, 6, 3, 4, 0, 1)  # without missions


@dataclass(frozen=True)
class GridNet(MLP):
    """An MLP behind an encoder of MiniGrid observations; the same interface, for uint8 inputs.

    The view passes a convolution (3 x 3 cells, stride 2, ``channels`` features, ReLU), whose nine outputs stay apart;
    the mission one over three words, averaged over the words. Direction and further columns (a one-hot task code)
    are appended. ``in_dim`` counts bytes: ``layout.num_bytes`` and the further columns.
    """

    layout: GridLayout = MINIGRID
    channels: int = 32

    @cached_property
    def trunk_shapes(self) -> dict[str, tuple[int, ...]]:
        layout = self.layout
        channels = self.channels
        shapes: dict[str, tuple[int, ...]] = {
            "trunk.view.weight": (channels, KERNEL * KERNEL * layout.cell),
            "trunk.view.bias": (channels,),
        }
        if layout.words:
            shapes["trunk.words.weight"] = (channels, WINDOW * layout.vocabulary)
            shapes["trunk.words.bias"] = (channels,)
        return shapes | self.hidden_shapes

    @cached_property
    def num_features(self) -> int:
        layout = self.layout
        convolutions = PATCHES + 1 if layout.words else PATCHES
        # Behind the observation stand columns such as a one-hot task code.
        further_columns = self.in_dim - layout.num_bytes
        return convolutions * self.channels + layout.directions + further_columns

    def fan_in(self, name: str, shape: tuple[int, ...]) -> int:
        """Inputs of a unit that are not 0: a one-hot code has one."""
        active = {
            "trunk.view.weight": 3 * KERNEL * KERNEL,
            "trunk.words.weight": WINDOW,
        }
        return active.get(name, shape[-1])

    def constants(self, flat: Tensor, dtype: torch.dtype) -> Views:
        views = super().constants(flat, dtype)
        if not flat.is_cuda:
            tables = encoder_tables(_convolutions(views), tuple(self.layout))
            views |= zip(TABLES, tables)
        return views

    def look(self, x: Tensor) -> Tensor | Seen:
        """Index the distinct rows and patches of ``x``, once for all networks of this layout; nothing on a GPU."""
        if x.is_cuda:
            return x
        return look(x, tuple(self.layout))

    def take(self, x: Tensor | Seen, index: Tensor) -> Tensor | Seen:
        if isinstance(x, Seen):
            return x.take(index)
        return super().take(x, index)

    def split(self, x: Tensor | Seen, size: int) -> Sequence[Tensor | Seen]:
        # Distinct rows are few, and parts would compute those that they share twice.
        if isinstance(x, Seen):
            return [x]
        return super().split(x, size)

    def rows(self, x: Tensor | Seen) -> Tensor:
        if isinstance(x, Tensor):
            return x
        return x.repeated().rows

    def forward(self, views: Views, x: Tensor | Seen, recall: Recall | None = None) -> Tensor:
        seen = self.look(x) if isinstance(x, Tensor) else x
        if not self._once(seen, views):
            return super().forward(views, seen, recall)
        hidden = self.hidden(views, self._encode(views, seen)).squeeze(1)
        out: Tensor = SpreadHeads.apply(
            hidden,
            seen.inverse,
            views["head.weight"],
            views["head.bias"],
        )
        return out

    def heads(self, views: Views, hidden: Tensor) -> Tensor:
        if hidden.is_cuda or torch.is_grad_enabled() or TASK_SCALE in views:
            return super().heads(views, hidden)
        # The compiled loop is several times faster for few rows a head.
        tasks, batch = hidden.shape[1:3]
        every = torch.arange(tasks * batch).view(tasks, batch)
        return spread_heads(
            hidden.flatten(1, 2),
            every,
            views["head.weight"],
            views["head.bias"],
        )

    def _once(self, seen: Tensor | Seen, views: Views) -> TypeGuard[Seen]:
        """Whether the heads can read the features of distinct rows, without repetitions."""
        if isinstance(seen, Tensor) or seen.inverse is None:
            return False
        if isinstance(views, OwnViews) or TASK_SCALE in views:
            return False
        return views["trunk.view.weight"].dim() == 3

    def trunk(self, views: Views, x: Tensor | Seen, recall: Recall | None = None) -> Tensor:
        """Shared features ``[K, T, b, width]`` float32 of uint8 ``[S, T, b, in]``."""
        weight = views["trunk.view.weight"]
        if isinstance(x, Tensor) and TABLES[0] in views and x.shape[1:3].numel() < FEW:
            tables = [views[name] for name in TABLES]
            features = encode_few(x, tuple(self.layout), tables, weight.dtype)
            return self.hidden(views, features)
        seen = self.look(x) if isinstance(x, Tensor) else x
        if isinstance(seen, Tensor):
            return self.hidden(views, self._looked_up(views, seen))
        # Gradients per task need every row under its own task.
        per_task = weight.dim() > 3
        if seen.inverse is not None and per_task:
            seen = seen.repeated()
        hidden = self.hidden(views, self._encode(views, seen))
        if seen.inverse is None:
            return hidden
        every: Tensor = Spread.apply(hidden.squeeze(1), seen.inverse.flatten())
        return every.unflatten(1, seen.inverse.shape)

    def _encode(self, views: Views, seen: Seen) -> Tensor:
        """Inputs ``[K, T, b, num_features]`` of the hidden layers, in the dtype of the weights."""
        features: Tensor = EncodeGrid.apply(seen, tuple(self.layout), *_convolutions(views))
        return features

    def _looked_up(self, views: Views, x: Tensor) -> Tensor:
        """``_encode`` in operations that a GPU has."""
        layout = self.layout
        weight = views["trunk.view.weight"]
        dtype = weight.dtype
        members = weight.shape[0]
        seeds, tasks, batch, _ = x.shape
        further_columns = self.in_dim - layout.num_bytes
        sizes = [SIDE * SIDE * 3, 1, layout.words, further_columns]
        cells, direction, words, rest = x.split(sizes, -1)

        codes = cell_codes(layout, dtype, weight.device)
        ids = patch_ids(cells, layout)
        convolved = LookupReLU.apply(
            ids,
            codes,
            weight,
            views["trunk.view.bias"],
        )
        parts = [convolved.view(members, tasks, batch, -1)]
        if layout.words:
            parts.append(self._mission(views, words))
        facing = _one_hot(direction, layout.directions, dtype).flatten(-2)
        of_seeds = torch.cat([facing, rest.to(dtype)], -1)
        parts.append(of_seeds.repeat_interleave(members // seeds, 0))
        return torch.cat([part.to(dtype) for part in parts], -1)

    def _mission(self, views: Views, words: Tensor) -> Tensor:
        """Features ``[K, T, b, channels]`` of token ids ``[S, T, b, words]``; 0 where there is no mission."""
        weight = views["trunk.words.weight"]
        bias = views["trunk.words.bias"]
        members = weight.shape[0]
        codes = torch.eye(self.layout.vocabulary, dtype=weight.dtype, device=weight.device)
        convolved: Tensor = LookupReLU.apply(word_ids(words), codes, weight, bias)
        features = convolved.view(members, *words.shape[1:], -1)
        # The mean is over words that are there: token 0 is padding.
        there = (words > 0).unsqueeze(-1)
        there = there.repeat_interleave(members // words.shape[0], 0).float()
        count = there.sum(-2).clamp_min(1)
        return (features * there).sum(-2) / count


def _convolutions(views: Views) -> list[Tensor | None]:
    """Weight and bias of the convolutions over the view and, if there is one, over the mission."""
    names = (
        "trunk.view.weight",
        "trunk.view.bias",
        "trunk.words.weight",
        "trunk.words.bias",
    )
    return [views.get(name) for name in names]


def patch_ids(cells: Tensor, layout: GridLayout) -> Tensor:
    """Numbers of the cells in each patch, int32 ``[S, T, b * 9, 9]``, of views ``[S, T, b, 147]`` uint8.

    The numbers count all possible cells, in the order of ``cell_codes``.
    """
    seeds, tasks, batch, _ = cells.shape
    by_cell = cells.to(torch.int32).unflatten(-1, (-1, 3))
    objects, colors, states = by_cell.unbind(-1)
    kinds = torch.add(colors, objects, alpha=layout.colors)
    numbers = torch.add(states, kinds, alpha=layout.states)
    grid = numbers.view(-1, SIDE, SIDE)
    patches = grid.unfold(1, KERNEL, STRIDE).unfold(2, KERNEL, STRIDE)
    return patches.reshape(seeds, tasks, batch * PATCHES, -1)


def word_ids(words: Tensor) -> Tensor:
    """Tokens of each word of ``[S, T, b, words]`` and its neighbors, int32 ``[S, T, b * words, 3]``."""
    side = WINDOW // 2
    padded = torch.nn.functional.pad(words.to(torch.int32), (side, side))
    return padded.unfold(-1, WINDOW, 1).flatten(2, 3)


def _one_hot(ids: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    values = torch.arange(size, dtype=ids.dtype, device=ids.device)
    return (ids.unsqueeze(-1) == values).to(dtype)


@cache
def cell_codes(layout: GridLayout, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The code of every possible cell, ``[C, cell]``: object, color and state, one-hot each."""
    sizes = layout.objects, layout.colors, layout.states
    codes = [torch.eye(size, dtype=dtype, device=device) for size in sizes]
    values = [torch.arange(size, device=device) for size in sizes]
    grid = torch.meshgrid(*values, indexing="ij")
    parts = [code[index.flatten()] for code, index in zip(codes, grid)]
    return torch.cat(parts, -1)
