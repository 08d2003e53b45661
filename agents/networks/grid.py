"""MiniGrid observations for stacked networks: categories become one-hot patches, which a convolution reads.

Nothing here is a magnitude: every byte of an observation is looked up. The convolution over the view is the product of
one-hot patches with a weight, computed as a sum of the weight's rows, and its gradients come out per task like those of
the body behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import ClassVar

import torch
from torch import Tensor

from mtrl.agents.networks import seen
from mtrl.agents.networks.encode import EncodeGrid, encode_few, encoder_tables
from mtrl.agents.networks.encoder import Encoder
from mtrl.agents.networks.layers import Named
from mtrl.agents.networks.lookup import LookupReLU
from mtrl.agents.networks.parameters import Parameter, he_uniform
from mtrl.agents.networks.seen import Seen, look
from mtrl.envs.specs import VIEW_SIDE, GridLayout

SIDE, KERNEL, STRIDE = VIEW_SIDE, 3, 2
PATCHES = ((SIDE - KERNEL) // STRIDE + 1) ** 2
WINDOW = 3  # words that the mission's convolution sees at once


MINIGRID = GridLayout(11, 6, 3, 4, 0, 1)  # without missions


@dataclass(frozen=True)
class GridEncoder(Encoder):
    """Features of MiniGrid observations, uint8.

    The view passes a convolution (3 x 3 cells, stride 2, ``channels`` features, ReLU), whose nine outputs stay apart;
    the mission one over three words, averaged over the words. Direction and further columns (a one-hot task code)
    are appended. ``in_dim`` counts bytes: ``layout.num_bytes`` and the further columns.
    """

    in_dim: int
    layout: GridLayout = MINIGRID
    channels: int = 32
    compiled: ClassVar[bool] = True

    @cached_property
    def num_features(self) -> int:  # type: ignore[override]
        layout = self.layout
        convolutions = PATCHES + 1 if layout.words else PATCHES
        # Behind the observation stand columns such as a one-hot task code.
        further_columns = self.in_dim - layout.num_bytes
        return convolutions * self.channels + layout.directions + further_columns

    def parameters(self) -> dict[str, Parameter]:
        layout = self.layout
        channels = self.channels
        cells = KERNEL * KERNEL
        # A one-hot code has one input that is not 0, so a patch has three a cell, and a window one a word.
        parameters = {
            "view.weight": Parameter((channels, cells * layout.cell), he_uniform(3 * cells)),
            "view.bias": Parameter((channels,), 0.0),
        }
        if layout.words:
            window = (channels, WINDOW * layout.vocabulary)
            parameters["words.weight"] = Parameter(window, he_uniform(WINDOW))
            parameters["words.bias"] = Parameter((channels,), 0.0)
        return parameters

    def tables(self, p: Named) -> tuple[Tensor, ...]:
        if not p["view.weight"].is_cpu:
            return ()
        return encoder_tables(_convolutions(p), tuple(self.layout))

    def look(self, x: Tensor) -> Tensor | Seen:
        """Index the distinct rows and patches of ``x``, once for all networks of this encoder; nothing on a GPU."""
        if not x.is_cpu:
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

    def encode(
        self, p: Named, x: Tensor | Seen, tables: tuple[Tensor, ...] = ()
    ) -> tuple[Tensor, Tensor | None]:
        if isinstance(x, Tensor) and tables and x.shape[1:3].numel() < seen.FEW:
            return encode_few(x, tuple(self.layout), tables, p["view.weight"].dtype), None
        known = self.look(x) if isinstance(x, Tensor) else x
        if isinstance(known, Tensor):
            return self.looked_up(p, known), None
        # Gradients per task need every row under its own task.
        if p["view.weight"].shape[1] > 1:
            known = known.repeated()
        return self.indexed(p, known), known.inverse

    def indexed(self, p: Named, known: Seen) -> Tensor:
        """Features ``[K, T, b, num_features]`` in the dtype of the weights, by compiled loops."""
        features: Tensor = EncodeGrid.apply(known, tuple(self.layout), *_convolutions(p))
        return features

    def looked_up(self, p: Named, x: Tensor) -> Tensor:
        """``indexed`` in operations that a GPU has."""
        layout = self.layout
        weight = p["view.weight"]
        dtype = weight.dtype
        members = weight.shape[0]
        seeds, tasks, batch, _ = x.shape
        further_columns = self.in_dim - layout.num_bytes
        sizes = [SIDE * SIDE * 3, 1, layout.words, further_columns]
        cells, direction, words, rest = x.split(sizes, -1)

        codes = cell_codes(layout, dtype, weight.device)
        ids = patch_ids(cells, layout)
        convolved = LookupReLU.apply(ids, codes, weight, p["view.bias"])
        parts = [convolved.view(members, tasks, batch, -1)]
        if layout.words:
            parts.append(self._mission(p, words))
        facing = _one_hot(direction, layout.directions, dtype).flatten(-2)
        of_seeds = torch.cat([facing, rest.to(dtype)], -1)
        parts.append(of_seeds.repeat_interleave(members // seeds, 0))
        return torch.cat([part.to(dtype) for part in parts], -1)

    def _mission(self, p: Named, words: Tensor) -> Tensor:
        """Features ``[K, T, b, channels]`` of token ids ``[S, T, b, words]``; 0 where there is no mission."""
        weight = p["words.weight"]
        members = weight.shape[0]
        codes = torch.eye(self.layout.vocabulary, dtype=weight.dtype, device=weight.device)
        convolved: Tensor = LookupReLU.apply(word_ids(words), codes, weight, p["words.bias"])
        features = convolved.view(members, *words.shape[1:], -1)
        # The mean is over words that are there: token 0 is padding.
        there = (words > 0).unsqueeze(-1)
        there = there.repeat_interleave(members // words.shape[0], 0).float()
        count = there.sum(-2).clamp_min(1)
        return (features * there).sum(-2) / count


def _convolutions(p: Named) -> list[Tensor | None]:
    """Weight and bias of the convolutions over the view and, if there is one, over the mission."""
    names = ("view.weight", "view.bias", "words.weight", "words.bias")
    return [p.get(name) for name in names]


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
