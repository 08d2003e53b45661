"""SimBaV2 (Lee et al. 2025, arXiv 2502.15280): features and the rows of all weights stay on the unit sphere.

Weights are projected back after each optimizer step, in trained networks only; target networks follow as averages.
Readings: a scaler's stored value over its storage scale is what multiplies, as in the authors' code, so that all
learned factors move at comparable speeds. The heads are this suite's linear ones, which are not projected; they read
``√d`` times the last unit vector, so that a feature has the size that it has elsewhere. The paper's running scale of
observations is no part of the body, and neither is its bound on rewards.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mtrl.agents.networks.bodies.body import Body, Step, Stepped
from mtrl.agents.networks.layers import Named, Size
from mtrl.agents.networks.linear import linear, scale_rows
from mtrl.agents.networks.parameters import Draw, Parameter, orthogonal
from mtrl.agents.settings import Count, Positive, settings

EXPANSION = 4


@settings
class SimBaV2(Body):
    """``x ← l2(x + α ⊙ (l2(W₂ ReLU(s ⊙ W₁ x)) − x))`` in each block, after ``l2(s ⊙ W l2([input, shift]))``.

    The agent's depth and activation do not matter: ``blocks`` counts the layers, and all units are ReLU.
    """

    corrects_steps: ClassVar[bool] = True

    blocks: Count = 1
    """Blocks of two layers, the first four times as wide; 1 in the paper's actor, 2 in its critic."""
    units: Count | None = None
    """Features on the sphere; none takes the agent's `width`. 128 in the paper's actor, 512 in its critic."""
    shift: Positive = 3.0
    """Constant appended to the input before it is normalized, which keeps its size visible."""

    def num_features(self, size: Size) -> int:
        return self.units or size.width

    def parameters(self, size: Size) -> dict[str, Parameter]:
        units = self.num_features(size)
        inner = EXPANSION * units
        parameters = {
            "in.weight": Parameter((units, size.inputs + 1), unit_rows()),
            "in.scale": Parameter((units,), math.sqrt(2 / units), exact=True),
        }
        for block in range(self.blocks):
            parameters |= {
                f"{block}.up.weight": Parameter((inner, units), unit_rows()),
                f"{block}.scale": Parameter((inner,), math.sqrt(2 / inner), exact=True),
                f"{block}.down.weight": Parameter((units, inner), unit_rows()),
                f"{block}.rate": Parameter((units,), 1 / math.sqrt(units), exact=True),
            }
        return parameters

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        units = self.num_features(step.size)
        # Normalizing alone would lose how long an observation is; a constant keeps it.
        constant = torch.full_like(x[..., :1], self.shift)
        shifted = normalize(torch.cat([x, constant], -1).float(), dim=-1)
        first = linear(shifted, p["in.weight"]).float()
        stream = normalize(scale_rows(first, p["in.scale"]), dim=-1)
        # The rate is stored at the size of a feature, and starts at 1 / (blocks + 1).
        start = math.sqrt(units) / (self.blocks + 1)
        for block in range(self.blocks):
            up = linear(stream, p[f"{block}.up.weight"]).float()
            active = scale_rows(up, p[f"{block}.scale"]).relu()
            new = normalize(linear(active, p[f"{block}.down.weight"]).float(), dim=-1)
            moved = scale_rows(new - stream, start * p[f"{block}.rate"])
            stream = normalize(stream + moved, dim=-1)
        # Heads expect features of about unit size, and a unit vector's are far smaller.
        return math.sqrt(units) * stream

    def after_step(self, p: Named, step: Stepped) -> Named:
        return {name: normalize(p[name], dim=-1) for name in p if name.endswith(".weight")}


def unit_rows() -> Draw:
    """Draws orthogonal matrices whose rows have unit norm."""
    return _unit_rows


def _unit_rows(size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return normalize(orthogonal()(size, generator), dim=-1)
