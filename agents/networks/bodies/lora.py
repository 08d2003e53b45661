"""Low-rank adaptation (LoRA, Hu et al. 2022) and its forms whose adapters all tasks share: MultiLoRA, Align-LoRA.

The base trains with the adapters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from mtrl.agents.networks.bodies.adapted import Adapted, kaiming
from mtrl.agents.networks.bodies.body import Look, Step
from mtrl.agents.networks.layers import Named, Size, hidden_layer
from mtrl.agents.networks.linear import linear
from mtrl.agents.networks.parameters import Kind, Parameter
from mtrl.agents.networks.shown import Matrices, Shown
from mtrl.agents.settings import Count, NonNegative, Positive, settings

LEAST_VARIANCE = 1e-8


def low_rank(size: Size, rank: int, prefix: str, kind: Kind = "shared") -> dict[str, Parameter]:
    """The factors of one change: ``down``, drawn, and ``up``, which starts at 0."""
    down = Parameter((rank, size.inputs), kaiming(size.inputs), kind, exact=True)
    # With this factor at 0 the network starts as the plain MLP.
    up = Parameter((size.width, rank), 0.0, kind, exact=True)
    return {f"{prefix}down": down, f"{prefix}up": up}


@settings
class LoRA(Adapted):
    """Weights ``W + s B_t A_t`` with an adapter of each task, or ``W + s B A`` with one for all."""

    rank: Count = 8
    """Rank of an adapter."""
    scale: Positive = 2.0
    """Factor s of adapters, α / r in the paper."""
    adapter: Literal["task", "shared"] = "task"
    """Whether every task owns an adapter, or all tasks share one."""

    @property
    def owns_changes(self) -> bool:
        return self.adapter == "task"

    def adapters(self, size: Size, layer: int) -> dict[str, Parameter]:
        kind: Kind = "owned" if self.adapter == "task" else "shared"
        return low_rank(size, self.rank, f"{layer}.", kind)

    def change(self, p: Named, layer: int, step: Step) -> Tensor:
        return low_rank_change(p, layer, self.scale)


@settings
class MultiLoRA(Adapted):
    """Weights ``W + Σ_i s_i ⊙ B_i A_i`` (Wang et al. 2023) with factors ``s_i`` of every output unit.

    All tasks share the adapters. Both ``A`` and ``B`` are drawn, and ``s`` starts at 0: the changes then use their
    directions more evenly than those of one adapter of the same rank.
    """

    adapters_per_layer: Count = 3
    """Adapters of a layer."""
    rank: Count = 8
    """Rank of an adapter."""

    @property
    def owns_changes(self) -> bool:
        return False

    def adapters(self, size: Size, layer: int) -> dict[str, Parameter]:
        down = (self.adapters_per_layer, self.rank, size.inputs)
        up = (self.adapters_per_layer, size.width, self.rank)
        return {
            f"{layer}.down": Parameter(down, kaiming(size.inputs), exact=True),
            f"{layer}.up": Parameter(up, kaiming(self.rank), exact=True),
            f"{layer}.scale": Parameter(up[:2], 0.0, exact=True),
        }

    def change(self, p: Named, layer: int, step: Step) -> Tensor:
        scaled = p[f"{layer}.scale"].unsqueeze(-1) * p[f"{layer}.up"]
        return (scaled @ p[f"{layer}.down"]).sum(2)


@settings
class AlignLoRA(Adapted):
    """Weights ``W + s B A`` with one adapter, and a loss that aligns tasks (Liu et al. 2025).

    The loss is ``align`` times the mean over pairs of tasks of the symmetric KL divergence between the rows' codes
    ``A h``, taken as diagonal Gaussians, summed over layers. It is no loss of a task, so it joins after aggregation.
    The paper's other divergence, MMD, is not offered.
    """

    rank: Count = 8
    """Rank of the adapter."""
    scale: Positive = 2.0
    """Factor s of the adapter, α / r in the paper."""
    align: NonNegative = 0.01
    """Weight of the loss that aligns tasks."""

    @property
    def mixes_tasks(self) -> bool:
        return self.align > 0

    def adapters(self, size: Size, layer: int) -> dict[str, Parameter]:
        return low_rank(size, self.rank, f"{layer}.")

    def change(self, p: Named, layer: int, step: Step) -> Tensor:
        return low_rank_change(p, layer, self.scale)

    @property
    def owns_changes(self) -> bool:
        return False

    @property
    def shown(self) -> Mapping[str, Shown]:
        return {
            "alignment": Shown(
                rows="tasks",
                columns="tasks",
                by_layer=True,
            )
        }

    def shows(self, look: Look) -> Matrices:
        p = look.p
        return {
            "alignment": [
                (-divergences(codes)).exp() for codes in self._codes(p, look.x, look.step)
            ]
        }

    def extra(self, p: Named, x: Tensor, step: Step) -> Tensor:
        parts = [divergence(codes) for codes in self._codes(p, x, step)]
        return self.align * torch.stack(parts).sum(0)

    def _codes(self, p: Named, x: Tensor, step: Step) -> list[Tensor]:
        """The rows' codes ``A h`` in each layer, ``[K, T, b, rank]``."""
        named = self.composed(p, step)
        hidden = x
        codes = []
        for layer in range(step.size.depth):
            codes.append(linear(hidden, p[f"{layer}.down"]))
            hidden = hidden_layer(named, layer, hidden, step.size.activation)
        return codes


def low_rank_change(p: Named, layer: int, scale: float) -> Tensor:
    """``s B A`` of a layer's factors of ``low_rank``, ``[K, G, width, inputs]``."""
    return scale * p[f"{layer}.up"] @ p[f"{layer}.down"]


def divergence(codes: Tensor) -> Tensor:
    """Mean symmetric KL divergence ``[K]`` of the tasks' codes ``[K, T, b, r]``, over pairs of different tasks."""
    tasks = codes.shape[1]
    pairs = max(tasks * (tasks - 1), 1)
    return divergences(codes).sum((1, 2)) / pairs


def divergences(codes: Tensor) -> Tensor:
    """Symmetric KL divergences ``[K, T, T]`` of the tasks' codes ``[K, T, b, r]``, taken as diagonal Gaussians."""
    mean = codes.mean(2)
    # At the start of training a unit may be the same on all rows.
    variance = codes.var(2, correction=0) + LEAST_VARIANCE
    # Axes [K, s, t, r]: first as task s, then as task t.
    apart = (mean.unsqueeze(2) - mean.unsqueeze(1)).square()
    ratio = (variance.unsqueeze(2) + apart) / variance.unsqueeze(1)
    return 0.25 * (ratio + ratio.transpose(1, 2) - 2).sum(-1)
