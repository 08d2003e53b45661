"""Mixture of LoRA experts that a router chooses for a row (MoLoRA, Zadouri et al. 2024), without the task's number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from mtrl.agents.errors import AgentError
from mtrl.agents.networks.bodies.adapted import kaiming
from mtrl.agents.networks.bodies.body import Body, Look, Step
from mtrl.agents.networks.bodies.lora import low_rank
from mtrl.agents.networks.layers import (
    Named,
    Size,
    hidden_layer,
    hidden_parameters,
)
from mtrl.agents.networks.linear import linear
from mtrl.agents.networks.mixture import softmax_of_largest
from mtrl.agents.networks.parameters import Parameter
from mtrl.agents.networks.shown import Matrices, Shown
from mtrl.agents.settings import Count, NonNegative, Positive, settings


@settings
class MoLoRA(Body):
    """Layers ``act(W h + b + s Σ_e g_e B_e A_e h)`` with ``g = softmax`` of the ``k`` largest of the router's ``R h``.

    The router does not know the task: only heads do, and with ``heads=one-hot`` the observation. A weight that depends
    on the row cannot be composed, so a layer adds the product of low rank. The loss ``balance E Σ_e f_e P_e`` sums over
    layers, with ``f_e`` the share of picks that expert e has among all tasks' rows, and ``P_e`` its mean probability.
    """

    experts: Count = 8
    """Experts of a layer."""
    k: Count = 2
    """Experts that a row uses."""
    rank: Count = 8
    """Rank of an expert."""
    scale: Positive = 2.0
    """Factor s of experts, α / r in the paper."""
    always: bool = False
    """Whether one further expert has weight 1 for all rows."""
    balance: NonNegative = 0.01
    """Weight of the loss that balances the experts' use."""

    def __post_init__(self) -> None:
        if self.k > self.experts:
            raise AgentError(f"k: {self.k} is more than the {self.experts} experts there are")

    @property
    def mixes_tasks(self) -> bool:
        return self.balance > 0

    def parameters(self, size: Size) -> dict[str, Parameter]:
        parameters = hidden_parameters(size)
        rank = self.rank * (self.experts + self.always)
        for layer in range(size.depth):
            inputs = size.width if layer else size.inputs
            part = replace(size, inputs=inputs)
            # The experts' factors lie one after the other.
            parameters |= low_rank(part, rank, f"{layer}.")
            router = Parameter((self.experts, inputs), kaiming(inputs), exact=True)
            parameters[f"{layer}.router"] = router
        return parameters

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        return self._run(p, x, step.size)[0]

    def extra(self, p: Named, x: Tensor, step: Step) -> Tensor:
        _, routed = self._run(p, x, step.size)
        parts = []
        for scores, gates in routed:
            # The share picked has no gradient; the probabilities carry it.
            picked = (gates > 0).float().mean((1, 2)) / self.k
            probability = scores.softmax(-1).mean((1, 2))
            parts.append(self.experts * (picked * probability).sum(-1))
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
        _, routed = self._run(p, look.x, look.step.size)
        return {"gate": [gates.mean(2) for _, gates in routed]}

    def _run(
        self, p: Named, x: Tensor, size: Size
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Features, and the router's scores and gates of each layer, ``[K, T, b, E]``."""
        hidden = x
        routed = []
        for layer in range(size.depth):
            scores = linear(hidden, p[f"{layer}.router"])
            gates = softmax_of_largest(scores, self.k)
            routed.append((scores, gates))
            weights = gates
            if self.always:
                weights = torch.cat([gates, torch.ones_like(gates[..., :1])], -1)
            codes = linear(hidden, p[f"{layer}.down"])
            # Weighing codes of low rank is cheaper than weighing the experts' outputs.
            codes = codes * weights.repeat_interleave(self.rank, -1)
            change = self.scale * linear(codes, p[f"{layer}.up"])
            change = change.to(p[f"{layer}.weight"].dtype)
            hidden = hidden_layer(p, layer, hidden, size.activation, change)
        return hidden.float(), routed
