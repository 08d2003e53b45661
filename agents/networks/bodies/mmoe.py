"""Mixtures of experts with a gate of each task: MMoE (Ma et al. 2018) and MMoEEx (Aoki et al. 2020).

A gate reads what the experts read and is its task's own. Gates start at equal weights. MMoEEx forbids tasks some of the
experts, by a random choice that stays. Its authors also train with a step of meta-learning, which is left out here: it
is a change of the loss, not of the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from mtrl.agents.networks.bodies.body import Body, Look, Step
from mtrl.agents.networks.layers import Named, Size
from mtrl.agents.networks.linear import linear
from mtrl.agents.networks.mixture import expert_outputs, expert_parameters, mix
from mtrl.agents.networks.parameters import Parameter
from mtrl.agents.networks.shown import Matrices, Shown
from mtrl.agents.settings import Count, Share, settings

Uniqueness = Literal["exclusive", "excluded"]


@settings
class MMoE(Body):
    """Features ``Σ_e softmax(W_t x + b_t)_e f_e(x)`` with MLPs ``f_e`` that all tasks share; the gate is the task's."""

    experts: Count = 4
    """Experts, each an MLP of the agent's width and depth."""

    def parameters(self, size: Size) -> dict[str, Parameter]:
        gate = (self.experts, size.inputs)
        return expert_parameters(size, self.experts) | {
            # At 0 every expert counts alike, so none is favored before it has learned.
            "gate.weight": Parameter(gate, 0.0, "owned", exact=True),
            "gate.bias": Parameter(gate[:1], 0.0, "owned", exact=True),
        }

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        return mix(expert_outputs(p, x, step.size), self.gates(p, x))

    @property
    def shown(self) -> Mapping[str, Shown]:
        return {
            "gate": Shown(
                rows="tasks",
                columns="experts",
            )
        }

    def shows(self, look: Look) -> Matrices:
        p = look.p
        return {"gate": [self.gates(p, look.x).mean(2)]}

    def gates(self, p: Named, x: Tensor) -> Tensor:
        """Weights of the experts at each row, ``[K, T, b, E]``, with sum 1."""
        return self._scores(p, x).softmax(-1)

    def _scores(self, p: Named, x: Tensor) -> Tensor:
        return linear(x, p["gate.weight"], p["gate.bias"])


@settings
class MMoEEx(MMoE):
    """MMoE where a share of the experts is *exclusive* to one task, or *excluded* from one task.

    Which one is drawn from the seed; tasks come up equally often. A gate is 0 at the experts that its task may not
    have, so these get no gradient from it. Actor and critics draw experts of their own.
    """

    experts: Count = 12
    """Experts, each an MLP of the agent's width and depth."""
    unique: Share = 0.5
    """Share of the experts that is not for all tasks; at least one always is."""
    uniqueness: Uniqueness = "exclusive"
    """Whether an expert that is not for all tasks is for one task, or for all but one."""

    def parameters(self, size: Size) -> dict[str, Parameter]:
        count = min(int(self.unique * self.experts), self.experts - 1)
        allowed = partial(_draw_allowed, count, self.uniqueness)
        mask = Parameter((self.experts,), allowed, "fixed", exact=True)
        return super().parameters(size) | {"allowed": mask}

    def _scores(self, p: Named, x: Tensor) -> Tensor:
        scores = linear(x, p["gate.weight"], p["gate.bias"])
        forbidden = p["allowed"].unsqueeze(2) < 0.5
        # After softmax the weight is exactly 0, and so is the gradient.
        return scores.masked_fill(forbidden, -torch.inf)


def _draw_allowed(
    count: int, kind: Uniqueness, size: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """Which experts a task has, 1 or 0, ``[K, T, E]``: the first ``count`` are unique to tasks in a random order."""
    members, tasks, _ = size
    device = generator.device
    allowed = torch.ones(size, device=device)
    # Members are seeds or twins; each draws an assignment of its own.
    for member in range(members):
        order = torch.randperm(tasks, generator=generator, device=device)
        for expert in range(count):
            one = torch.zeros(tasks, device=device)
            one[order[expert % tasks]] = 1.0
            allowed[member, :, expert] = one if kind == "exclusive" else 1 - one
    return allowed
