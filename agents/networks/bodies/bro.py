"""BroNet (Nauman et al. 2024, arXiv 2405.16158), and what BRC (2025, arXiv 2505.23150) adds to it for many tasks.

BRC appends a learned embedding of the task, of unit norm, to the input. Published code keeps it in the critic outside
of the ensemble, trains it by the critics' loss alone and gives the actor a copy; here it is a parameter that actor and
critics tie, and the target critics' copy follows as their other parameters do. It is normalized in each forward pass;
rescaling it in place after a step would lose the optimizer's moments their meaning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from mtrl.agents.networks.bodies.body import Body, Look, Step
from mtrl.agents.networks.bodies.embedding import with_code
from mtrl.agents.networks.layers import Named, Size, affine, normalized
from mtrl.agents.networks.parameters import Parameter, orthogonal, uniform
from mtrl.agents.networks.shown import SIMILARITY, Matrices, Shown, similarity
from mtrl.agents.settings import Count, Natural, settings


@settings
class BRO(Body):
    """``x ← x + LN(W₂ ReLU(LN(W₁ x)))`` in each block, after ``ReLU(LN(W x))``.

    The agent's depth and activation do not matter: ``blocks`` counts the layers, and all units are ReLU.
    """

    blocks: Count = 2
    """Residual blocks of two layers; 1 in the paper's actor, 2 in its critic."""
    units: Count | None = None
    """Units of every layer; none takes the agent's `width`. 256 in BRC's actor, 4096 in its critic."""
    embedding: Natural = 0
    """Numbers of a task's embedding of unit norm, appended to the input; 0 for none, 32 in BRC."""

    def num_features(self, size: Size) -> int:
        return self.units or size.width

    def parameters(self, size: Size) -> dict[str, Parameter]:
        units = self.num_features(size)
        inputs = size.inputs + self.embedding
        parameters: dict[str, Parameter] = {}
        for name in self._layers():
            parameters |= {
                f"{name}.weight": Parameter((units, inputs), orthogonal(math.sqrt(2))),
                f"{name}.bias": Parameter((units,), 0.0),
                f"{name}.gain": Parameter((units,), 1.0, exact=True),
                f"{name}.shift": Parameter((units,), 0.0, exact=True),
            }
            inputs = units
        if self.embedding:
            code = Parameter(
                (self.embedding,), uniform(1.0), "owned", exact=True, tied="critic"
            )
            parameters["embedding"] = code
        return parameters

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        if self.embedding:
            x = with_code(x, p["embedding"])
        stream = _layer(p, "in", x).relu()
        for block in range(self.blocks):
            hidden = _layer(p, f"{block}.first", stream).relu()
            # No ReLU after the sum: the stream passes from block to block unchanged.
            stream = stream + _layer(p, f"{block}.second", hidden)
        return stream

    @property
    def shown(self) -> Mapping[str, Shown]:
        return {"similarity": SIMILARITY} if self.embedding else {}

    def shows(self, look: Look) -> Matrices:
        p = look.p
        return {"similarity": [similarity(p["embedding"])]} if self.embedding else {}

    def _layers(self) -> list[str]:
        names = ["in"]
        for block in range(self.blocks):
            names += [f"{block}.first", f"{block}.second"]
        return names


def _layer(p: Named, name: str, x: Tensor) -> Tensor:
    """A linear layer and its LayerNorm, float32."""
    return normalized(affine(p, name, x), p[f"{name}.gain"], p[f"{name}.shift"])
