"""Safe multi-task learning (DSMTL, Guo et al. 2021): each task weighs a trunk that all share against one of its own.

With a gate at 0 a task trains alone, so sharing need not harm it. ``lite`` chooses one of both for each task and layer,
by the larger share, where the authors' code draws the choice by Gumbel-softmax in training; the gradient passes as if
the choice were the share. All gates start at 1/2, and the lite network as the plain MLP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from mtrl.agents.networks.bodies.body import Body, Look, Step
from mtrl.agents.networks.layers import (
    Named,
    Size,
    hidden_layer,
    hidden_layers,
    hidden_parameters,
    named,
    owned,
    part_of,
)
from mtrl.agents.networks.linear import of_members
from mtrl.agents.networks.parameters import Parameter
from mtrl.agents.networks.shown import Matrices, Shown
from mtrl.agents.settings import ShareBelowOne, settings


@settings
class DSMTL(Body):
    """``g_t h + (1 - g_t) h_t`` with ``g_t`` the sigmoid of a number; it and the layers of ``h_t`` are a task's own."""

    uses_share: ClassVar[bool] = True

    lite: bool = False
    """Whether each layer's output is that of the shared or of the own layer, whichever has the larger share."""
    alone: ShareBelowOne = 0.0
    """Share of training, at its beginning, in which tasks train their own layers alone."""

    def parameters(self, size: Size) -> dict[str, Parameter]:
        gates = size.depth if self.lite else 1
        found = named("all", hidden_parameters(size))
        found |= named("own", owned(hidden_parameters(size)))
        return found | {"gate": Parameter((gates,), 0.0, "owned", exact=True)}

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        of_all = part_of(p, "all")
        of_task = part_of(p, "own")
        gates = self.gates(p, step)
        if not self.lite:
            both = [hidden_layers(part, x, step.size) for part in (of_all, of_task)]
            # The weighted mean of both in one pass over the rows.
            return both[1].lerp(both[0], gates[..., 0, None])
        activation = step.size.activation
        hidden = of_members(x, len(gates)).to(of_all["0.weight"].dtype)
        for layer in range(step.size.depth):
            shared = hidden_layer(of_all, layer, hidden, activation)
            own = hidden_layer(of_task, layer, hidden, activation)
            hidden = own.lerp(shared, gates[..., layer, None].to(own.dtype))
        return hidden.float()

    @property
    def shown(self) -> Mapping[str, Shown]:
        return {
            "gate": Shown(
                rows="tasks",
                columns="the weights of what all share",
            )
        }

    def shows(self, look: Look) -> Matrices:
        p = look.p
        return {"gate": [self.gates(p, look.step)[:, :, 0]]}

    def gates(self, p: Named, step: Step) -> Tensor:
        """The weights of what all share, ``[K, T, 1, gates]``."""
        share = p["gate"].sigmoid().unsqueeze(2)
        if self.lite:
            choice = (share >= 0.5).to(share.dtype)
            # The value of the choice and the gradient of the share.
            share = choice + share - share.detach()
        # A gate of 0 keeps the tasks' gradients out of the shared layers, too.
        return share * float(step.share >= self.alone)
