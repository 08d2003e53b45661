"""SimBa (Lee et al. 2025, arXiv 2410.09754): a residual stream that each block reads through LayerNorm.

The paper's running scale of observations is no part of the body: MTPPO has ``normalize_obs``, MTSAC reads observations
as they are. The stream is float32, only products follow the update's arithmetic.
"""

from __future__ import annotations

from torch import Tensor

from mtrl.agents.networks.bodies.body import Body, Step
from mtrl.agents.networks.layers import Named, Size, affine, affine_parameters, normalized
from mtrl.agents.networks.parameters import Parameter, orthogonal
from mtrl.agents.settings import Count, settings

EXPANSION = 4


@settings
class SimBa(Body):
    """``x ← x + W₂ ReLU(W₁ LN(x))`` in each block, after a linear layer and before a last LayerNorm.

    The agent's depth and activation do not matter: ``blocks`` counts the layers, and all units are ReLU.
    """

    blocks: Count = 1
    """Residual blocks of two layers, the first four times as wide; 1 in the paper's actor, 2 in its critic."""
    units: Count | None = None
    """Units of the residual stream; none takes the agent's `width`. 128 in the paper's actor, 512 in its critic."""

    def num_features(self, size: Size) -> int:
        return self.units or size.width

    def parameters(self, size: Size) -> dict[str, Parameter]:
        units = self.num_features(size)
        inner = EXPANSION * units
        parameters = {
            "in.weight": Parameter((units, size.inputs), orthogonal()),
            "in.bias": Parameter((units,), 0.0),
        }
        for block in range(self.blocks):
            parameters |= _norm(f"{block}.norm", units)
            parameters |= affine_parameters(f"{block}.up", inner, units)
            parameters |= affine_parameters(f"{block}.down", units, inner)
        return parameters | _norm("last", units)

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        # The residual stream is float32: many small changes add up in it.
        stream = affine(p, "in", x).float()
        for block in range(self.blocks):
            read = normalized(stream, p[f"{block}.norm.gain"], p[f"{block}.norm.bias"])
            up = affine(p, f"{block}.up", read).relu()
            stream = stream + affine(p, f"{block}.down", up)
        return normalized(stream, p["last.gain"], p["last.bias"])


def _norm(name: str, units: int) -> dict[str, Parameter]:
    """Gain and bias of a LayerNorm."""
    return {
        f"{name}.gain": Parameter((units,), 1.0, exact=True),
        f"{name}.bias": Parameter((units,), 0.0, exact=True),
    }
