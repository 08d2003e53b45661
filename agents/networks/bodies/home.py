"""Hierarchy of experts with gated inputs (HoME, Wang et al. 2024).

Every level has experts of all tasks and of groups of tasks, the last one also experts of each task. The paper's batch
norm depends on the other rows of a batch, which targets and acting have not; its place is taken by LayerNorm. The
feature gates' second factor starts at 0, so that inputs start unchanged. All experts but a task's own are computed for
all rows; what a task may not use weighs 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import silu

from mtrl.agents.networks.bodies.body import Body, Look, Step
from mtrl.agents.networks.layers import (
    Named,
    Size,
    before_activation,
    check_count,
    each_layer,
    numbers_of,
)
from mtrl.agents.networks.linear import experts_as_members, linear, of_members
from mtrl.agents.networks.mixture import expert_parameters, experts_of, mix
from mtrl.agents.networks.parameters import Kind, Parameter, he_uniform, table
from mtrl.agents.networks.shown import Matrices, Shown
from mtrl.agents.settings import Count, settings


@settings
class HoME(Body):
    """Levels ``Σ_e softmax(W_t h)_e f_e(h) + σ(v_t h) f_t(h)`` of experts ``f_e(h) = swish(LayerNorm(W_e h_e + b_e))``
    with inputs ``h_e = 2 σ(A_e B_e h) ⊙ h``.

    The sum is over the experts of all tasks, those of the task's group and, in the last level, its own ``f_t``. A
    hidden layer is a level. The self gate ``σ(v_t h)`` is in the last level only; by it the own expert always learns.
    """

    rank: Count = 16
    """Rank of the gates of features."""
    groups: str = ""
    """Each task's group, counted from 0, as in 0/0/1; empty puts tasks in one that build on equally many others."""

    def __post_init__(self) -> None:
        numbers_of("groups", self.groups)

    def parameters(self, size: Size) -> dict[str, Parameter]:
        numbers = self._numbers(size)
        groups = max(numbers, default=0) + 1
        parameters: dict[str, Parameter] = {}
        for level, part in enumerate(_levels(size)):
            last = level == size.depth - 1
            inputs = part.inputs
            parameters |= self._experts(part, 1 + groups, f"{level}.common.", "shared")
            if last:
                parameters |= self._experts(part, 1, f"{level}.own.", "owned")
                self_gate = Parameter((1, inputs), 0.0, "owned", exact=True)
                parameters[f"{level}.self"] = self_gate
            gate = (1 + groups + last, inputs)
            parameters[f"{level}.gate"] = Parameter(gate, 0.0, "owned", exact=True)
        # With one group every task may use it, and a mask would do nothing.
        if groups > 1:
            rows = []
            for number in numbers:
                rows.append([1.0] + [float(number == group) for group in range(groups)])
            parameters["allowed"] = Parameter((1 + groups,), table(rows), "fixed", exact=True)
        return parameters

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        return self._run(p, x, step.size)[0]

    @property
    def shown(self) -> Mapping[str, Shown]:
        columns = "the experts of all, of each group, and at last the task's own"
        return {
            "gate": Shown(
                rows="tasks",
                columns=columns,
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
        for level, part in enumerate(_levels(size)):
            outputs = _outputs(p, hidden, part, f"{level}.common.")
            scores = linear(hidden, p[f"{level}.gate"])
            if "allowed" in p:
                forbidden = p["allowed"].unsqueeze(2) < 0.5
                common = scores[..., : forbidden.shape[-1]].masked_fill(forbidden, -torch.inf)
                scores = torch.cat([common, scores[..., forbidden.shape[-1] :]], -1)
            gates.append(scores.softmax(-1))
            if level < size.depth - 1:
                hidden = mix(outputs, gates[-1])
                continue
            own = _outputs(p, hidden, part, f"{level}.own.")
            gate = linear(hidden, p[f"{level}.self"]).sigmoid()
            mixed = mix(torch.cat([outputs, own], 1), gates[-1])
            hidden = mixed + gate * own[:, 0]
        return hidden, gates

    def _experts(self, size: Size, count: int, prefix: str, kind: Kind) -> dict[str, Parameter]:
        """Experts of one layer, with their feature gates."""
        parameters = expert_parameters(size, count, prefix, kind)
        down = (count, self.rank, size.inputs)
        up = (count, size.inputs, self.rank)
        parameters[f"{prefix}down"] = Parameter(down, he_uniform(size.inputs), kind)
        parameters[f"{prefix}up"] = Parameter(up, 0.0, kind)
        return parameters

    def _numbers(self, size: Size) -> tuple[int, ...]:
        """The number of each task's group; empty where all are in one."""
        # A task that has networks of its own is in no group.
        if not self.groups or size.num_tasks == 1:
            levels = sorted(set(size.depths))
            return tuple(levels.index(depth) for depth in size.depths)
        numbers = numbers_of("groups", self.groups)
        check_count("groups", numbers, size.num_tasks)
        return numbers


def _outputs(p: Named, x: Tensor, size: Size, prefix: str) -> Tensor:
    """Outputs ``[K, E, T, b, width]`` float32 of experts at ``x`` ``[S or K, T, b, inputs]``."""
    experts = experts_of(p, size, prefix)
    down = experts_as_members(p[f"{prefix}down"])
    up = experts_as_members(p[f"{prefix}up"])
    # Twice a sigmoid is 1 at the start, where ``up`` is 0: inputs pass as they are.
    gate = 2 * linear(linear(x, down), up).sigmoid()
    inputs = of_members(x, len(gate)).to(gate.dtype) * gate
    hidden = silu(before_activation(experts, 0, inputs, "layer_norm"))
    return hidden.float().unflatten(0, (len(p[f"{prefix}down"]), -1))


def _levels(size: Size) -> list[Size]:
    """The layer of each level's experts, which have LayerNorm whatever the agent's activation is."""
    return each_layer(replace(size, activation="layer_norm"))
