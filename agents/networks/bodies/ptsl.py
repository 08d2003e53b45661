"""Projected task-specific layers (PTSL, Somerville Roberts and Di 2024)."""

from __future__ import annotations

from torch import Tensor

from mtrl.agents.networks.bodies.adapted import Adapted, kaiming
from mtrl.agents.networks.bodies.body import Step
from mtrl.agents.networks.layers import Named, Size
from mtrl.agents.networks.linear import in_parts
from mtrl.agents.networks.parameters import Parameter
from mtrl.agents.settings import Count, settings


@settings
class PTSL(Adapted):
    """Weights ``W + U T_t D``: layers share the projections ``U`` and ``D``, and each task owns ``T_t`` in every layer.

    ``T_t`` starts at 0; the authors saw drawn ones diverge. Layers share projections of their hidden units; the first
    one, which reads something else, has a ``D`` of its own. The authors' encoder, CARE's, does not belong to the layers
    and is left out.
    """

    inner: Count = 50
    """Rows and columns of a task's matrix."""

    def adapters(self, size: Size, layer: int) -> dict[str, Parameter]:
        square = (self.inner, self.inner)
        down = Parameter((self.inner, size.inputs), kaiming(size.inputs), exact=True)
        up = Parameter((size.width, self.inner), kaiming(self.inner), exact=True)
        return {
            # Layers after the second find the same name again.
            _down(layer): down,
            "up": up,
            f"{layer}.core": Parameter(square, 0.0, "owned", exact=True),
        }

    def change(self, p: Named, layer: int, step: Step) -> Tensor:
        core = in_parts(p[f"{layer}.core"], p["up"])
        return p["up"] @ core @ p[_down(layer)]


def _down(layer: int) -> str:
    return "down" if layer else "0.down"
