"""Experts that all tasks share beside experts that a task owns: CGC and PLE (Tang et al. 2020).

In PLE the paper also mixes the shared experts' input from all experts of the level below, private ones of other tasks
among them. Here a row belongs to one task, and running the others' private experts on it would make them shared. So
the shared experts of a level read the row's own mixture of the level below. Public code leaves that gate out without
saying so.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mtrl.agents.networks.bodies.body import Body, Look, Step
from mtrl.agents.networks.layers import Named, Size, each_layer
from mtrl.agents.networks.linear import linear
from mtrl.agents.networks.mixture import expert_outputs, expert_parameters, mix
from mtrl.agents.networks.parameters import Parameter
from mtrl.agents.networks.shown import Matrices, Shown
from mtrl.agents.settings import Count, Natural, settings


@settings
class CGC(Body):
    """Features ``Σ_e softmax(W_t x + b_t)_e f_e(x)`` over shared experts and the task's own."""

    shared: Count = 2
    """Experts that all tasks share, each an MLP of the agent's width and depth."""
    own: Natural = 1
    """Experts that each task owns."""

    def parameters(self, size: Size) -> dict[str, Parameter]:
        experts = self.shared + self.own
        parameters: dict[str, Parameter] = {}
        for level, part in enumerate(self._levels(size)):
            gate = (experts, part.inputs)
            parameters |= expert_parameters(part, self.shared, f"{level}.shared.")
            if self.own:
                parameters |= expert_parameters(part, self.own, f"{level}.own.", "owned")
            parameters[f"{level}.gate.weight"] = Parameter(gate, 0.0, "owned", exact=True)
            parameters[f"{level}.gate.bias"] = Parameter(gate[:1], 0.0, "owned", exact=True)
        return parameters

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        return self._run(p, x, step.size)[0]

    @property
    def shown(self) -> Mapping[str, Shown]:
        return {
            "gate": Shown(
                rows="tasks",
                columns="shared experts, then own ones",
                by_layer=True,
            )
        }

    def shows(self, look: Look) -> Matrices:
        p = look.p
        _, gates = self._run(p, look.x, look.step.size)
        return {"gate": [gate.mean(2) for gate in gates]}

    def _run(self, p: Named, x: Tensor, size: Size) -> tuple[Tensor, list[Tensor]]:
        """Features, and the gates of each level ``[K, T, b, E]``."""
        hidden = x
        gates = []
        for level, part in enumerate(self._levels(size)):
            outputs = expert_outputs(p, hidden, part, f"{level}.shared.")
            if self.own:
                own = expert_outputs(p, hidden, part, f"{level}.own.")
                # Rows of a task meet its own experts only, which keeps those outside the Gramian.
                outputs = torch.cat([outputs, own], 1)
            scores = linear(hidden, p[f"{level}.gate.weight"], p[f"{level}.gate.bias"])
            gates.append(scores.softmax(-1))
            hidden = mix(outputs, gates[-1])
        return hidden, gates

    def _levels(self, size: Size) -> list[Size]:
        """The experts' layers of each level: all in one."""
        return [size]


@settings
class PLE(CGC):
    """CGC with a level for each hidden layer: a level reads the mixture ``h_t`` of the one below."""

    def _levels(self, size: Size) -> list[Size]:
        return each_layer(size)
