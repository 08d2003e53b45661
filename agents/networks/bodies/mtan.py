"""Multi-task attention network (MTAN, Liu et al. 2019): each task masks the features of one shared trunk.

The paper is about images; here its convolutions are linear layers and its batch normalization is LayerNorm without gain
and bias. What the paper shares between tasks on the way from one mask to the next is left out: the next mask reads the
masked features themselves.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from mtrl.agents.networks.bodies.body import Body, Look, Step
from mtrl.agents.networks.layers import (
    Named,
    Size,
    affine,
    affine_parameters,
    hidden_layer,
    hidden_parameters,
    owned,
)
from mtrl.agents.networks.linear import of_members
from mtrl.agents.networks.parameters import Parameter
from mtrl.agents.networks.shown import Matrices, Shown
from mtrl.agents.settings import Count, settings


@settings
class MTAN(Body):
    """Features ``m_L`` with ``m_l = σ(W'_tl ReLU(norm(W_tl [h_l; m_(l-1)]))) ⊙ h_l``; ``h`` are hidden layers.

    The weights of the masks are the task's own, so the hidden layers alone are shared.
    """

    units: Count = 64
    """Units of the layer that a mask is made from."""

    def parameters(self, size: Size) -> dict[str, Parameter]:
        found = hidden_parameters(size)
        for layer in range(size.depth):
            inputs = 2 * size.width if layer else size.width
            found |= owned(affine_parameters(f"mask.{layer}", self.units, inputs))
            found |= owned(affine_parameters(f"mask.{layer}.last", size.width, self.units))
        return found

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        return self._run(p, x, step.size)[0]

    @property
    def shown(self) -> Mapping[str, Shown]:
        return {
            "mask": Shown(
                rows="tasks",
                columns="units",
                by_layer=True,
            )
        }

    def shows(self, look: Look) -> Matrices:
        p = look.p
        _, masks = self._run(p, look.x, look.step.size)
        return {"mask": [mask.float().mean(2) for mask in masks]}

    def _run(self, p: Named, x: Tensor, size: Size) -> tuple[Tensor, list[Tensor]]:
        """Features, and the masks of each layer ``[K, T, b, width]``."""
        masks = []
        hidden = of_members(x, len(p["0.weight"])).to(p["0.weight"].dtype)
        # Nothing is masked yet, so the first mask reads the layer alone.
        masked = hidden[..., :0]
        for layer in range(size.depth):
            hidden = hidden_layer(p, layer, hidden, size.activation)
            seen = affine(p, f"mask.{layer}", torch.cat([hidden, masked], -1))
            # Of a row, not of a batch: batches of policies of different ages differ.
            seen = layer_norm(seen, seen.shape[-1:]).relu()
            masks.append(affine(p, f"mask.{layer}.last", seen).sigmoid())
            masked = masks[-1] * hidden
        return masked.float(), masks
