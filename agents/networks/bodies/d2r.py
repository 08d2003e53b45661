"""Dynamic depth routing (D2R, He et al. 2024): each row takes a path of its own through a graph of modules.

Module j reads ``u_j = Σ_{i<j} g_ji h_i``, gives ``h_j = act(W_j u_j + b_j) + u_j``, one more gate mixes them all.
A gate keeps the ``top`` largest of its logits and is their softmax. What it does not keep is computed and multiplied by
0, so shapes stay the same.

ResRouting: a source whose share in the softmax over all j sources is at most ``1 / (j + 1)`` gets no gradient through
the module that it feeds, only through the sum around it; the last gate has no such sum.

Reading: with ``sampled`` each row draws its routes, without replacement, from the softmax of the logits: in acting, and
in MTSAC's losses anew, since batches hold no routes; MTPPO's losses see the draws that acted. The paper, whose agent is
SAC, stores the routes and draws them at the temperatures ``T softmax(-log α)``, which a body does not know. By default
routes are the likeliest ones.
Bases and gates are float32, since rounding would change routes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mtrl.agents.networks.bodies.body import Body, Look, Step
from mtrl.agents.networks.layers import (
    Named,
    Size,
    activate,
    affine,
    affine_parameters,
    hidden_layers,
    hidden_parameters,
    named,
    one_layer,
    part_of,
)
from mtrl.agents.networks.linear import of_members
from mtrl.agents.networks.parameters import Parameter, unit_variance
from mtrl.agents.networks.shown import Matrices, Shown
from mtrl.agents.settings import Count, settings

TINY = 1e-10


@settings
class D2R(Body):
    """Modules in a graph, with gates of ``f(x) ⊙ z_t``; ``f`` is two layers of the agent's width.

    The vector ``z_t`` is the task's own. The agent's depth plays no role.
    """

    modules: Count = 16
    """Modules, each of which can read all before it."""
    units: Count = 128
    """Units of a module, and features."""
    gate: Count = 256
    """Units of the gates' two layers."""
    top: Count = 2
    """Sources that a module reads."""
    sampled: bool = False
    """Whether routes are drawn in acting and in the losses; targets and deterministic actions take the likeliest."""

    @property
    def noise_size(self) -> int:
        return self._routes if self.sampled else 0

    def num_features(self, size: Size) -> int:
        return self.units

    def parameters(self, size: Size) -> dict[str, Parameter]:
        base = hidden_parameters(one_layer(size))
        found = {}
        for name, parameter in named("base", base).items():
            found[name] = replace(parameter, exact=True)
        found |= affine_parameters("base.last", size.width, size.width, exact=True)
        found["task"] = Parameter((size.width,), unit_variance(), "owned", exact=True)
        found |= affine_parameters("gate.0", self.gate, size.width, exact=True)
        found |= affine_parameters("gate.1", self.gate, self.gate, exact=True)
        found |= affine_parameters("gate.2", self._routes, self.gate, exact=True)
        for module in range(self.modules):
            inputs = self.units if module else size.width
            found |= affine_parameters(f"modules.{module}", self.units, inputs)
        return found

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        activation = step.size.activation
        base = self._base(p, x, step.size)
        gates, kept = self.gates(p, base * p["task"].unsqueeze(2), step)
        # A copy, since the gates read the base as it is.
        first = affine(p, "modules.0", activate(base.clone(), activation), activation)
        outputs = [first.float()]
        for module in range(1, self.modules):
            around, into = Route.apply(gates[module - 1], kept[module - 1], *outputs)
            inside = affine(p, f"modules.{module}", into, activation)
            outputs.append(inside.float() + around)
        _, into = Route.apply(gates[-1], kept[-1], *outputs)
        routed: Tensor = into
        return routed

    def gates(self, p: Named, product: Tensor, step: Step) -> tuple[list[Tensor], list[Tensor]]:
        """The gates ``[K, T, b, j]`` for ``j`` from 1 to the number of modules, and which sources get a gradient."""
        activation = step.size.activation
        hidden = affine(p, "gate.0", product, activation)
        hidden = affine(p, "gate.1", hidden, activation)
        logits = affine(p, "gate.2", hidden)
        ranked = logits.detach()
        if step.noise is not None:
            # The largest of logits with Gumbel noise are draws without replacement from their softmax.
            uniform_numbers = of_members(step.noise, len(logits)).clamp(TINY, 1 - 1e-7)
            ranked = ranked - (-uniform_numbers.log()).log()
        counts = list(range(1, self.modules + 1))
        gates = []
        kept = []
        for row, order in zip(logits.split(counts, -1), ranked.split(counts, -1)):
            sources = row.shape[-1]
            top = order.topk(min(self.top, sources), -1).indices
            chosen = torch.zeros_like(order, dtype=torch.bool).scatter(-1, top, True)
            gates.append(row.masked_fill(~chosen, -torch.inf).softmax(-1))
            kept.append(row.detach().softmax(-1) > 1 / (sources + 1))
        return gates, kept

    @property
    def shown(self) -> Mapping[str, Shown]:
        return {
            "route": Shown(
                rows="tasks",
                columns="the sources of each module, then of the output",
            )
        }

    def shows(self, look: Look) -> Matrices:
        p = look.p
        product = self._base(p, look.x, look.step.size) * p["task"].unsqueeze(2)
        gates, _ = self.gates(p, product, look.step)
        return {"route": [torch.cat(gates, -1).mean(2)]}

    def _base(self, p: Named, x: Tensor, size: Size) -> Tensor:
        """What gates and the first module read, ``[K, T, b, width]``."""
        return affine(p, "base.last", hidden_layers(part_of(p, "base"), x, one_layer(size)))

    @property
    def _routes(self) -> int:
        """The logits of all gates."""
        return self.modules * (self.modules + 1) // 2


class Route(torch.autograd.Function):
    """``Σ_i g_i h_i`` ``[K, T, b, n]`` twice, of a gate ``[K, T, b, j]`` and ``j`` outputs ``[K, T, b, n]``.

    The gradient of the first result goes to all outputs, that of the second only to those that ``kept``
    ``[K, T, b, j]`` names; the gate gets both.
    """

    @staticmethod
    def forward(
        ctx: Any, gate: Tensor, kept: Tensor, *outputs: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(gate, kept, *outputs)
        total = gate[..., :1] * outputs[0]
        for source in range(1, len(outputs)):
            total.addcmul_(gate[..., source, None], outputs[source])
        return total, total.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gate, kept, *outputs = ctx.saved_tensors
        around, into = grads
        both = around + into
        passed = gate * kept
        to_gate = [(both * output).sum(-1) for output in outputs]
        to_outputs = []
        for source in range(len(outputs)):
            through = passed[..., source, None] * into
            to_outputs.append(through.addcmul_(gate[..., source, None], around))
        return torch.stack(to_gate, -1), None, *to_outputs
