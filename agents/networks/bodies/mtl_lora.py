"""Adapters of low rank with a part that each task owns: MTL-LoRA, MTLoRA, C-Poly.

The base trains with the adapters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from mtrl.agents.networks.bodies.adapted import Adapted, kaiming
from mtrl.agents.networks.bodies.body import Look, Step
from mtrl.agents.networks.bodies.lora import low_rank, low_rank_change
from mtrl.agents.networks.layers import Named, Size
from mtrl.agents.networks.linear import in_parts, of_members
from mtrl.agents.networks.parameters import Parameter, uniform
from mtrl.agents.networks.shown import Matrices, Shown
from mtrl.agents.settings import Count, Natural, Positive, settings

LOGIT_RATE = 10.0  # the logits' step size over that of other parameters, as in public code
LOGIT_START = 1e-3


@settings
class MTLLoRA(Adapted):
    """Weights ``W + s Σ_i softmax(w_t / τ)_i B_i Λ_t A`` (Yang et al. 2024).

    ``Λ_t``, which starts as the identity, and ``w_t`` are the task's own.
    """

    ups: Count = 3
    """Matrices B that tasks mix."""
    rank: Count = 8
    """Rank of an adapter."""
    scale: Positive = 2.0
    """Factor s of adapters, α / r in the paper."""
    temperature: Positive = 0.5
    """Temperature τ of the mixture; 0.1 in the configuration that the authors released."""

    def adapters(self, size: Size, layer: int) -> dict[str, Parameter]:
        rank = self.rank
        return {
            f"{layer}.down": Parameter((rank, size.inputs), kaiming(size.inputs), exact=True),
            f"{layer}.up": Parameter((self.ups, size.width, rank), 0.0, exact=True),
            # What is learned is the difference to the identity.
            f"{layer}.core": Parameter((rank, rank), 0.0, "owned", exact=True),
            f"{layer}.mixture": Parameter((self.ups,), 0.0, "owned", exact=True),
        }

    def change(self, p: Named, layer: int, step: Step) -> Tensor:
        ups = p[f"{layer}.up"]
        logits = in_parts(p[f"{layer}.mixture"], ups)
        core = in_parts(p[f"{layer}.core"], ups)
        mixture = self._mixture(logits)
        # Mixing the small factors is cheaper than mixing whole weights.
        up = (mixture[..., None, None] * ups).sum(2)
        return self.scale * (up + up @ core) @ p[f"{layer}.down"]

    @property
    def shown(self) -> Mapping[str, Shown]:
        return {
            **super().shown,
            "mixture": Shown(
                rows="tasks",
                columns="matrices B",
                by_layer=True,
            ),
        }

    def shows(self, look: Look) -> Matrices:
        p = look.p
        layers = range(look.step.size.depth)
        mixtures = [self._mixture(p[f"{layer}.mixture"]) for layer in layers]
        return super().shows(look) | {"mixture": mixtures}

    def _mixture(self, logits: Tensor) -> Tensor:
        return (logits / self.temperature).softmax(-1)


@settings
class MTLoRA(Adapted):
    """Weights ``W + s B A`` with shared adapters, in the last hidden layer ``W + s B A + s_t B_t A_t`` (Agiza et al.
    2024); the second adapter and its factor ``s_t`` are the task's own.

    Public code's default mode leaves ``B A`` out of the tasks' outputs in the layer that has both; here it is in them.
    """

    rank: Count = 16
    """Rank of the adapters that all tasks share."""
    own_rank: Count = 4
    """Rank of the adapter that a task owns."""
    scale: Positive = 2.0
    """Factor s of shared adapters, and the first value of a task's own."""

    def adapters(self, size: Size, layer: int) -> dict[str, Parameter]:
        parameters = low_rank(size, self.rank, f"{layer}.")
        # Only the last layer is the task's own, as in the paper's decoders.
        if layer == size.depth - 1:
            parameters |= low_rank(size, self.own_rank, f"{layer}.own.", "owned")
            parameters[f"{layer}.own.scale"] = Parameter((1,), self.scale, "owned", exact=True)
        return parameters

    def change(self, p: Named, layer: int, step: Step) -> Tensor:
        shared = low_rank_change(p, layer, self.scale)
        if layer < step.size.depth - 1:
            return shared
        own = (
            p[f"{layer}.own.scale"].unsqueeze(-1)
            * p[f"{layer}.own.up"]
            @ p[f"{layer}.own.down"]
        )
        return shared + in_parts(own, shared)


@settings
class CPoly(Adapted):
    """Weights ``W + s Σ_a z_ta B_a A_a + s B_t A_t`` (Wang et al. 2024): tasks choose among shared adapters, and each
    has one of its own.

    ``z_t`` has sum 1. In losses and in sampling it is made of relaxed Bernoulli draws at temperature 1, one a task and
    pass, for MTPPO's actor one a task and rollout, else of their probabilities. All layers use the same. Several
    adapters of a task that it chooses among, as in the paper, are one of a larger rank where it always has all of
    them, so there is one.
    """

    draws_by_task: ClassVar[bool] = True

    shared: Count = 3
    """Adapters that all tasks share."""
    rank: Count = 4
    """Rank of a shared adapter."""
    own_rank: Natural = 4
    """Rank of the adapter that a task owns; 0 is none, which is Polytropon."""
    scale: Positive = 1.0
    """Factor s of adapters."""

    @property
    def noise_size(self) -> int:
        """Uniform numbers of a row, of which a task's first row is used: one a shared adapter."""
        return self.shared

    def parameters(self, size: Size) -> dict[str, Parameter]:
        start = uniform(LOGIT_START / LOGIT_RATE)
        choice = Parameter((self.shared,), start, "owned", exact=True)
        return super().parameters(size) | {"choice": choice}

    def adapters(self, size: Size, layer: int) -> dict[str, Parameter]:
        down = (self.shared, self.rank, size.inputs)
        up = (self.shared, size.width, self.rank)
        parameters = {
            f"{layer}.down": Parameter(down, kaiming(size.inputs), exact=True),
            f"{layer}.up": Parameter(up, 0.0, exact=True),
        }
        if self.own_rank:
            parameters |= low_rank(size, self.own_rank, f"{layer}.own.", "owned")
        return parameters

    def change(self, p: Named, layer: int, step: Step) -> Tensor:
        up = p[f"{layer}.up"]
        chosen = in_parts(self.chosen(p, step), up)
        change = ((chosen[..., None, None] * up) @ p[f"{layer}.down"]).sum(2)
        if self.own_rank:
            own = p[f"{layer}.own.up"] @ p[f"{layer}.own.down"]
            change = change + in_parts(own, change)
        return self.scale * change

    @property
    def shown(self) -> Mapping[str, Shown]:
        return {
            **super().shown,
            "mixture": Shown(
                rows="tasks",
                columns="shared adapters",
            ),
        }

    def shows(self, look: Look) -> Matrices:
        p = look.p
        return super().shows(look) | {"mixture": [self.chosen(p, look.step)]}

    def chosen(self, p: Named, step: Step) -> Tensor:
        """Weights of the shared adapters in each task, ``[K, T, A]``."""
        logits = LOGIT_RATE * p["choice"]
        if step.noise is not None:
            # One draw for all rows of a task, since the weight is one.
            uniform_draw = step.noise[:, :, 0].clamp(1e-6, 1 - 1e-6)
            logits = logits + of_members(uniform_draw, len(logits)).logit()
        gates = torch.sigmoid(logits)
        return gates / gates.sum(-1, keepdim=True)
