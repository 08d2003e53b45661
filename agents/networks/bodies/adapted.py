"""Hidden layers whose weights are composed, ``W_t = W + ΔW_t``: the one path of adapters of low rank.

``W`` trains together with what changes it. The composed weight goes through the products of weights that tasks own, so
that rows cost as much as in the MLP, and each task's gradient comes out of it exactly. Factors of changes are float32;
their product is rounded with ``W``. A changed layer starts as the MLP's, since one factor of every change starts at 0:
the gradient of the other one is 0 in the first update.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from mtrl.agents.networks.bodies.body import Body, Look, Step
from mtrl.agents.networks.layers import Named, Size, hidden_layers, hidden_parameters
from mtrl.agents.networks.linear import in_parts
from mtrl.agents.networks.parameters import Draw, Parameter, uniform
from mtrl.agents.networks.shown import Matrices, Shown, similarity


class Adapted(Body):
    """Hidden layers with a change of each one's weight."""

    @property
    def owns_changes(self) -> bool:
        """Whether ``ΔW`` differs between tasks."""
        return True

    @property
    def shown(self) -> Mapping[str, Shown]:
        shown = Shown(
            rows="tasks",
            columns="tasks",
            signed=True,
            by_layer=True,
        )
        return {"similarity": shown} if self.owns_changes else {}

    def shows(self, look: Look) -> Matrices:
        p = look.p
        if not self.owns_changes:
            return {}
        found = []
        for layer in range(look.step.size.depth):
            change = self.change(p, layer, look.step)
            # A layer whose change all tasks share shows that they are equal.
            every = change.expand(-1, look.x.shape[1], -1, -1)
            found.append(similarity(every.flatten(2)))
        return {"similarity": found}

    @abstractmethod
    def adapters(self, size: Size, layer: int) -> dict[str, Parameter]:
        """The parameters of the change of a hidden layer, by full name.

        Args:
            size: of this layer alone.
        """

    @abstractmethod
    def change(self, p: Named, layer: int, step: Step) -> Tensor:
        """``ΔW`` of a hidden layer, ``[K, G, width, inputs]``."""

    def parameters(self, size: Size) -> dict[str, Parameter]:
        parameters = hidden_parameters(size)
        for layer in range(size.depth):
            inputs = size.width if layer else size.inputs
            parameters |= self.adapters(replace(size, inputs=inputs), layer)
        return parameters

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        return hidden_layers(self.composed(p, step), x, step.size)

    def composed(self, p: Named, step: Step) -> Named:
        """``p`` with the weights ``W + ΔW`` of hidden layers."""
        named = dict(p)
        for layer in range(step.size.depth):
            weight = p[f"{layer}.weight"]
            change = self.change(p, layer, step).to(weight.dtype)
            # One product with the sum costs less than two products per row.
            named[f"{layer}.weight"] = weight + in_parts(change, weight)
        return named


def kaiming(fan_in: int) -> Draw:
    """Draws as the reference implementation of LoRA does, from ``±1 / √fan_in``."""
    return uniform(1 / math.sqrt(fan_in))
