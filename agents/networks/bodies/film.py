"""Feature-wise linear modulation (Perez et al. 2018): a code of the task scales and shifts every channel.

Published multi-task RL code has one scalar a layer and lets it start anywhere; here every channel has its own, and the
last layer starts at zero, so that training starts from the plain MLP.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mtrl.agents.networks.bodies.body import Body, Look, Step
from mtrl.agents.networks.layers import (
    Named,
    Size,
    activate,
    before_activation,
    hidden_parameters,
)
from mtrl.agents.networks.linear import linear, of_members, scale_rows
from mtrl.agents.networks.parameters import Parameter, he_uniform
from mtrl.agents.networks.shown import SIMILARITY, Matrices, Shown, similarity
from mtrl.agents.settings import Count, settings


@settings
class FiLM(Body):
    """Hidden layers ``act(γ_l(c_t) ⊙ (W_l h + b_l) + β_l(c_t))``, with ``c_t`` an MLP of the task of two layers."""

    code: Count = 50
    """Numbers in a task's code, and units of the layer that reads it."""

    def parameters(self, size: Size) -> dict[str, Parameter]:
        modulation = 2 * size.depth * size.width
        # The first layer reads a one-hot task, so its weights are one vector that each task owns.
        own = Parameter((self.code,), he_uniform(1), "owned", exact=True)
        return hidden_parameters(size) | {
            "code": own,
            "code.weight": Parameter((self.code, self.code), he_uniform(self.code), exact=True),
            "code.bias": Parameter((self.code,), 0.0, exact=True),
            "film.weight": Parameter((modulation, self.code), 0.0, exact=True),
            "film.bias": Parameter((modulation,), 0.0, exact=True),
        }

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        size = step.size
        gains, shifts = self._modulation(p, size)
        hidden = of_members(x, len(gains)).to(p["0.weight"].dtype)
        for layer in range(size.depth):
            plain = before_activation(p, layer, hidden, size.activation)
            gain = gains[:, :, layer].to(plain.dtype)
            shift = shifts[:, :, layer].to(plain.dtype)
            hidden = activate(scale_rows(plain, gain, shift), size.activation)
        return hidden.float()

    @property
    def shown(self) -> Mapping[str, Shown]:
        return {"similarity": SIMILARITY}

    def shows(self, look: Look) -> Matrices:
        p = look.p
        gains, shifts = self._modulation(p, look.step.size)
        # Gains differ from 1 by what the task changes.
        changes = torch.cat([gains - 1, shifts], 2).flatten(2)
        return {"similarity": [similarity(changes)]}

    def _modulation(self, p: Named, size: Size) -> tuple[Tensor, Tensor]:
        """γ and β, ``[K, G, depth, width]`` for ``G`` groups of rows."""
        own = p["code"]
        # A task whose rows are split in groups needs its code once for each.
        parts = max(p["film.weight"].shape[1] // own.shape[1], 1)
        code = own.unsqueeze(2).expand(-1, -1, parts, -1).relu()
        code = linear(code, p["code.weight"], p["code.bias"]).relu()
        both = linear(code, p["film.weight"], p["film.bias"])
        by_layer = both.flatten(1, 2).unflatten(-1, (2, size.depth, size.width))
        return 1 + by_layer[:, :, 0], by_layer[:, :, 1]
