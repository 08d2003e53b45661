"""Implicit knowledge (YOLOR, Wang et al. 2021): vectors of each task that are added, multiplied or concatenated.

Vectors start as normal numbers of deviation ``spread`` around what changes nothing: 0 where they are added or
concatenated, 1 where they multiply. With ``spread=0`` training starts from the plain MLP.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from mtrl.agents.networks.bodies.body import Body, Look, Step
from mtrl.agents.networks.layers import (
    Named,
    Size,
    hidden_layer,
    hidden_parameters,
)
from mtrl.agents.networks.linear import of_members
from mtrl.agents.networks.parameters import Draw, Parameter, he_uniform
from mtrl.agents.networks.shown import SIMILARITY, Matrices, Shown, similarity
from mtrl.agents.settings import Count, NonNegative, settings


@settings
class YOLOR(Body):
    """Hidden layers whose outputs are ``a_tl ⊙ h_l + s_tl``, or ``[h_l; v_tl]`` for the layer that reads them.

    The task owns its vectors.
    """

    mode: Literal["add", "multiply", "both", "concatenate"] = "both"
    """What vectors do with features; both is a product and a sum."""
    position: Literal["all", "last"] = "all"
    """Whether every hidden layer's output meets a vector, or the last one's alone."""
    units: Count = 32
    """Numbers in a vector that is concatenated."""
    spread: NonNegative = 0.02
    """Standard deviation of the vectors at the start."""

    def num_features(self, size: Size) -> int:
        return size.width + self._added(size, size.depth - 1)

    def parameters(self, size: Size) -> dict[str, Parameter]:
        found = hidden_parameters(size)
        for layer in range(size.depth):
            added = self._added(size, layer - 1) if layer else 0
            # The layer that reads a concatenated vector has that many more inputs.
            if added:
                inputs = size.width + added
                weight = Parameter((size.width, inputs), he_uniform(inputs))
                found[f"{layer}.weight"] = weight
            for name, mean, width in self._vectors(size, layer):
                start = around(mean, self.spread) if self.spread else mean
                found[name] = Parameter((width,), start, "owned", exact=True)
        return found

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        size = step.size
        hidden = of_members(x, len(p["0.weight"])).to(p["0.weight"].dtype)
        for layer in range(size.depth):
            plain = hidden_layer(p, layer, hidden, size.activation)
            hidden = self._meet(p, layer, plain)
        return hidden.float()

    @property
    def shown(self) -> Mapping[str, Shown]:
        return {"similarity": SIMILARITY}

    def shows(self, look: Look) -> Matrices:
        p = look.p
        changes = []
        for layer in range(look.step.size.depth):
            for name, mean, _ in self._vectors(look.step.size, layer):
                changes.append(p[name] - mean)
        return {"similarity": [similarity(torch.cat(changes, -1))]}

    def _meet(self, p: Named, layer: int, hidden: Tensor) -> Tensor:
        """A layer's output ``[K, T, b, width]`` with the vectors that it meets."""
        met = {}
        for kind in ("gain", "shift", "code"):
            name = f"{kind}.{layer}"
            if name in p:
                met[kind] = p[name].unsqueeze(2).to(hidden.dtype)
        if "code" in met:
            rows = met["code"].expand(-1, -1, hidden.shape[2], -1)
            return torch.cat([hidden, rows], -1)
        if len(met) == 2:
            # One pass over the rows instead of two.
            return torch.addcmul(met["shift"], hidden, met["gain"])
        if "gain" in met:
            return hidden * met["gain"]
        return hidden + met["shift"] if met else hidden

    def _vectors(self, size: Size, layer: int) -> list[tuple[str, float, int]]:
        """Name, mean at the start and length of each vector that a layer's output meets."""
        if self.position == "last" and layer < size.depth - 1:
            return []
        vectors = []
        if self.mode in ("multiply", "both"):
            vectors.append((f"gain.{layer}", 1.0, size.width))
        if self.mode in ("add", "both"):
            vectors.append((f"shift.{layer}", 0.0, size.width))
        if self.mode == "concatenate":
            vectors.append((f"code.{layer}", 0.0, self.units))
        return vectors

    def _added(self, size: Size, layer: int) -> int:
        """How many numbers a layer's output gains."""
        is_met = bool(self._vectors(size, layer))
        return self.units if is_met and self.mode == "concatenate" else 0


def around(mean: float, spread: float) -> Draw:
    """Draws normal numbers."""
    return partial(_normal, mean, spread)


def _normal(
    mean: float, spread: float, size: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    values = torch.empty(size, device=generator.device)
    return values.normal_(mean, spread, generator=generator)
