"""Sparse layers of experts with a gate of each task (M³ViT, Liang et al. 2022).

The paper's layers are those of a vision transformer; here an expert is one hidden layer of the MLP. Each task picks
``k`` experts for a row by noisy scores, and a loss over the rows of all tasks balances the experts' use. All experts
are computed for all rows, and those not picked weigh 0, so that shapes stay the same. Public code draws the noise's
weights at random; here they start at 0, so that noise is equal everywhere. The scores' weights are drawn: if they
started at 0 as well, noise alone would pick experts, and PPO would compare the probabilities of different policies.
Targets and deterministic actions have no noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from mtrl.agents.errors import AgentError
from mtrl.agents.networks.bodies.body import Body, Look, Step
from mtrl.agents.networks.layers import (
    Named,
    Size,
    hidden_layer,
    hidden_parameters,
    one_layer,
)
from mtrl.agents.networks.linear import linear, of_members
from mtrl.agents.networks.mixture import (
    expert_outputs,
    expert_parameters,
    mix,
    softmax_of_largest,
)
from mtrl.agents.networks.parameters import Parameter, he_uniform, uniform
from mtrl.agents.networks.shown import Matrices, Shown
from mtrl.agents.settings import Count, NonNegative, settings

# Of scores, as in the authors' code, so that the chance of being picked is smooth.
LEAST_NOISE = 0.01
EPS = 1e-10


@settings
class M3ViT(Body):
    """Layers ``Σ_e g_te act(W_e h + b_e)`` with ``g_t = softmax`` of the ``k`` largest of
    ``V_t h + ε σ (softplus(U_t h) + 0.01)`` and normal ``ε``; the gate, ``V_t`` and ``U_t``, is the task's own.

    The loss ``balance (CV²(Σ g) + CV²(load))`` sums over sparse layers. CV is the coefficient of variation over
    experts, and an expert's load the sum over rows of its chance of being picked.
    """

    experts: Count = 8
    """Experts of a sparse layer, each of the agent's width."""
    k: Count = 2
    """Experts that a row uses. A single one has weight 1, so that only the balance trains the gate."""
    sparse: Count = 2
    """Hidden layers that are sparse, counted from the last; 2 of 3 in the paper's spirit of every other."""
    gate: Literal["obs", "task"] = "obs"
    """What a task's scores depend on: its hidden units, or nothing else, so that its choice is one for all rows."""
    noise: NonNegative = 0.125
    """Factor σ of the noise; 1 / experts in the authors' code."""
    balance: NonNegative = 0.01
    """Weight of the loss that balances the experts' use."""

    def __post_init__(self) -> None:
        if self.k > self.experts:
            raise AgentError(f"k: {self.k} is more than the {self.experts} experts there are")

    @property
    def noise_size(self) -> int:
        """Uniform numbers of a row: one an expert and sparse layer."""
        return self.experts * self.sparse if self.noise else 0

    @property
    def mixes_tasks(self) -> bool:
        return self.balance > 0

    def parameters(self, size: Size) -> dict[str, Parameter]:
        dense = self._dense(size)
        parameters = hidden_parameters(replace(size, depth=dense))
        for layer in range(dense, size.depth):
            part = one_layer(size, layer)
            fan_in = (part.inputs,) if self.gate == "obs" else ()
            shape = (self.experts, *fan_in)
            start = he_uniform(part.inputs) if self.gate == "obs" else uniform(1.0)
            parameters |= expert_parameters(part, self.experts, f"{layer}.expert.")
            parameters[f"{layer}.gate"] = Parameter(shape, start, "owned", exact=True)
            if self.noise:
                parameters[f"{layer}.noise"] = Parameter(shape, 0.0, "owned", exact=True)
        return parameters

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        return self._run(p, x, step)[0]

    def extra(self, p: Named, x: Tensor, step: Step) -> Tensor:
        _, picks = self._run(p, x, step)
        parts = []
        for gates, load in picks:
            parts.append(_variation(gates.sum((1, 2))))
            if load is not None:
                parts.append(_variation(load.sum((1, 2))))
        return self.balance * torch.stack(parts).sum(0)

    @property
    def shown(self) -> Mapping[str, Shown]:
        return {
            "gate": Shown(
                rows="tasks",
                columns="experts",
                by_layer=True,
            )
        }

    def shows(self, look: Look) -> Matrices:
        p = look.p
        _, picks = self._run(p, look.x, look.step)
        return {"gate": [gates.mean(2) for gates, _ in picks]}

    def _run(
        self, p: Named, x: Tensor, step: Step
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor | None]]]:
        """Features, and of each sparse layer the gates and the chances of being picked, ``[K, T, b, E]``."""
        size = step.size
        dense = self._dense(size)
        hidden = x
        for layer in range(dense):
            hidden = hidden_layer(p, layer, hidden, size.activation)
        picks = []
        for layer in range(dense, size.depth):
            outputs = expert_outputs(p, hidden, one_layer(size, layer), f"{layer}.expert.")
            gates, load = self._pick(p, hidden, layer, layer - dense, step)
            picks.append((gates, load))
            hidden = mix(outputs, gates)
        return hidden, picks

    def _pick(
        self, p: Named, hidden: Tensor, layer: int, place: int, step: Step
    ) -> tuple[Tensor, Tensor | None]:
        """Gates and chances of being picked of one layer."""
        scores = self._linear(p[f"{layer}.gate"], hidden)
        if step.noise is None or not self.noise:
            return softmax_of_largest(scores, self.k), None
        # A least deviation, so that the load keeps a gradient when noise is learned away.
        std = self.noise * (softplus(self._linear(p[f"{layer}.noise"], hidden)) + LEAST_NOISE)
        drawn = step.noise[..., place * self.experts : (place + 1) * self.experts]
        # Uniform numbers of 0 or 1 would become infinite.
        normal = torch.special.ndtri(drawn.clamp(1e-6, 1 - 1e-6))
        noisy = scores + std * of_members(normal, len(scores))
        # With all experts picked there is no chance of being left out.
        if self.k == self.experts:
            return softmax_of_largest(noisy, self.k), None
        return softmax_of_largest(noisy, self.k), self._chance(scores, noisy, std)

    def _linear(self, weight: Tensor, hidden: Tensor) -> Tensor:
        """``weight`` of the gate times hidden units, ``[K, T, b, E]``."""
        if self.gate == "obs":
            return linear(hidden, weight)
        return weight.unsqueeze(2).expand(-1, -1, hidden.shape[2], -1)

    def _chance(self, scores: Tensor, noisy: Tensor, std: Tensor) -> Tensor:
        """Chance of an expert to be picked if its noise alone were drawn again, ``[..., E]``."""
        largest = noisy.topk(self.k + 1, -1).values
        last_in = largest[..., -2:-1]
        first_out = largest[..., -1:]
        # An expert among the k largest has to beat the next one, any other has to beat the k-th.
        rival = torch.where(noisy >= last_in, first_out, last_in)
        return torch.special.ndtr((scores - rival) / std)

    def _dense(self, size: Size) -> int:
        """Hidden layers before the first sparse one."""
        return max(size.depth - self.sparse, 0)


def _variation(use: Tensor) -> Tensor:
    """Squared coefficient of variation over experts ``[K]`` of ``[K, E]``."""
    return use.var(-1, correction=0) / (use.mean(-1).square() + EPS)
