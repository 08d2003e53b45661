"""Mixture of orthogonal experts (MOORE, Hendawy et al. 2024).

Each expert is an MLP whose last layer is linear. The experts' outputs at a row are made orthonormal, and each task
mixes them with weights of its own. A learned mixture alone tends to collapse to equal experts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from mtrl.agents.networks.bodies.body import Body, Look, Step
from mtrl.agents.networks.layers import Named, Size, hidden_layers
from mtrl.agents.networks.linear import experts_as_members, linear
from mtrl.agents.networks.mixture import expert_parameters, experts_of
from mtrl.agents.networks.parameters import Parameter, he_uniform
from mtrl.agents.networks.shown import Matrices, Shown
from mtrl.agents.settings import Count, settings

EPS = 1e-8  # inside the square root: two equal experts have no difference to normalize


@settings
class MOORE(Body):
    """``tanh(Σ_e w_te v_e)`` with ``v`` the experts' outputs after Gram-Schmidt; ``w_t`` is the task's own."""

    experts: Count = 4
    """Experts, each an MLP of the agent's width and depth; 4 on MT10 and 6 on MT50 in the paper."""

    def parameters(self, size: Size) -> dict[str, Parameter]:
        parameters = expert_parameters(_hidden(size), self.experts)
        fan_in = size.width if size.depth > 1 else size.inputs
        last = (self.experts, size.width, fan_in)
        parameters["last.weight"] = Parameter(last, he_uniform(fan_in))
        parameters["last.bias"] = Parameter(last[:2], 0.0)
        parameters["mixture"] = Parameter(
            (self.experts,), he_uniform(self.experts), "owned", exact=True
        )
        return parameters

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        size = _hidden(step.size)
        hidden = hidden_layers(experts_of(p, size), x, size) if size.depth else x
        weight = experts_as_members(p["last.weight"])
        bias = experts_as_members(p["last.bias"])
        outputs = linear(hidden, weight, bias)
        # The projection is float32 also where the experts are not: it subtracts nearly equal numbers.
        by_expert = outputs.float().unflatten(0, (-1, self.experts))
        mixture = p["mixture"]
        mixed = torch.zeros_like(by_expert[:, 0])
        for expert, vector in enumerate(orthonormal(by_expert)):
            mixed = mixed + mixture[:, :, None, expert, None] * vector
        return mixed.tanh()

    @property
    def shown(self) -> Mapping[str, Shown]:
        return {
            "mixture": Shown(
                rows="tasks",
                columns="experts",
                signed=True,
            )
        }

    def shows(self, look: Look) -> Matrices:
        p = look.p
        return {"mixture": [p["mixture"]]}


def orthonormal(vectors: Tensor) -> list[Tensor]:
    """Modified Gram-Schmidt: an orthonormal basis ``E x [K, ..., F]`` of what ``vectors`` ``[K, E, ..., F]`` span."""
    basis: list[Tensor] = []
    for vector in vectors.unbind(1):
        rest = vector
        for unit in basis:
            rest = rest - (rest * unit).sum(-1, keepdim=True) * unit
        length = (rest.square().sum(-1, keepdim=True) + EPS).sqrt()
        basis.append(rest / length)
    return basis


def _hidden(size: Size) -> Size:
    """The layers of an expert before its last."""
    return replace(size, depth=size.depth - 1)
