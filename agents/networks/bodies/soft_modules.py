"""Soft modularization (Yang et al. 2020): a gate mixes the modules of each layer by task and observation.

The two networks of the paper are ``layers=2,modules=2,units=256`` (shallow, MT10) and ``layers=4,modules=4,units=128``
(deep, MT50). Its task weights ``T softmax(-log α)`` are a second ingredient: MTSAC's setting ``temperature_weights``.

Equation 8 of the paper has ReLU before the weighted sum of modules, the authors' code after it; this is the code's.
Weights start by their number of inputs, where that code takes the number of outputs. Each gate is a distribution over
the modules that a module reads, and the next gate reads distributions, not logits.
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
    affine,
    affine_parameters,
    as_members,
    hidden_layers,
    hidden_parameters,
    named,
    one_layer,
    part_of,
    several,
)
from mtrl.agents.networks.linear import linear
from mtrl.agents.networks.mixture import mix
from mtrl.agents.networks.parameters import Parameter, unit_variance
from mtrl.agents.networks.shown import Matrices, Shown
from mtrl.agents.settings import Count, settings


@settings
class SoftModules(Body):
    """Module j of a layer reads ``act(Σ_i p_ji h_i)`` with ``h_i`` the outputs of the layer before.

    The state ``f(x)`` is two layers of the agent's width; ``p`` are made of ``f(x) ⊙ z_t``, with ``z_t`` the task's own
    vector. The agent's depth plays no role.
    """

    layers: Count = 2
    """Layers of modules."""
    modules: Count = 2
    """Modules in each layer."""
    units: Count = 256
    """Units of a module, and features."""
    gate: Count = 256
    """Units of the gates' two layers."""

    def num_features(self, size: Size) -> int:
        return self.units

    def parameters(self, size: Size) -> dict[str, Parameter]:
        found = named("state", hidden_parameters(one_layer(size)))
        found |= affine_parameters("state.last", size.width, size.width)
        # The linear layer of a one-hot task is one vector that each task owns.
        found["task"] = Parameter((size.width,), unit_variance(), "owned", exact=True)
        found |= affine_parameters("gate.0", self.gate, size.width)
        found |= affine_parameters("gate.1", self.gate, self.gate)
        seen = 0
        for layer in range(self.layers):
            if layer:
                found |= affine_parameters(f"before.{layer}", self.gate, seen)
            found |= affine_parameters(f"route.{layer}", self._routes(layer), self.gate)
            seen += self._routes(layer)
            inputs = self.units if layer else size.width
            one = affine_parameters(f"modules.{layer}", self.units, inputs)
            found |= several(self.modules, one)
        return found

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        size = step.size
        hidden = self._state(p, x, size)
        gates = self.gates(p, hidden, size)
        for layer, gate in enumerate(gates):
            modules = as_members(part_of(p, f"modules.{layer}"))
            outputs = linear(hidden, modules["weight"], modules["bias"])
            by_module = outputs.float().unflatten(0, (-1, self.modules))
            mixed = [mix(by_module, of_one) for of_one in gate.unbind(3)]
            hidden = activate(torch.stack(mixed, 1), size.activation).flatten(0, 1)
        return hidden

    def gates(self, p: Named, hidden: Tensor, size: Size) -> list[Tensor]:
        """How much each module of the next layer, or the output, reads of each module, ``[K, T, b, next, modules]``."""
        first = affine(p, "gate.0", hidden, size.activation)
        trunk = affine(p, "gate.1", first)
        gates: list[Tensor] = []
        for layer in range(self.layers):
            read = trunk
            if layer:
                # A gate knows through which modules the row has come so far.
                before = torch.cat([gate.flatten(3) for gate in gates], -1)
                read = affine(p, f"before.{layer}", before) * trunk
            # A copy, since later gates read the trunk as it is.
            logits = affine(p, f"route.{layer}", activate(read.clone(), size.activation))
            by_module = logits.float().unflatten(-1, (-1, self.modules))
            gates.append(by_module.softmax(-1))
        return gates

    @property
    def shown(self) -> Mapping[str, Shown]:
        columns = "what each module of the next layer reads of each module"
        return {
            "route": Shown(
                rows="tasks",
                columns=columns,
                by_layer=True,
            )
        }

    def shows(self, look: Look) -> Matrices:
        p = look.p
        gates = self.gates(p, self._state(p, look.x, look.step.size), look.step.size)
        return {"route": [gate.mean(2).flatten(2) for gate in gates]}

    def _state(self, p: Named, x: Tensor, size: Size) -> Tensor:
        """What gates and the modules of the first layer read, ``[K, T, b, width]``."""
        state = hidden_layers(part_of(p, "state"), x, one_layer(size))
        state = affine(p, "state.last", state)
        # float32, as the vector of a task is, whatever the arithmetic of the layers is.
        product = state.float() * p["task"].unsqueeze(2)
        return activate(product, size.activation)

    def _routes(self, layer: int) -> int:
        """The weights of a layer's gate: of all pairs of modules, and after the last layer of its modules."""
        is_last = layer == self.layers - 1
        return self.modules if is_last else self.modules**2
