"""Linear heads: one for every task, which owns it, or one that all tasks share. Their outputs are float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mtrl.agents.networks.layers import Named
from mtrl.agents.networks.linear import LinearHeads, ScaleTasks
from mtrl.agents.networks.parameters import Kind, Parameter, he_uniform


class Scale(NamedTuple):
    """What a normalized output ``n`` of a task stands for, ``std n + mean``; both ``[K, T]``."""

    mean: Tensor
    std: Tensor


@dataclass(frozen=True)
class Heads:
    """Linear heads on ``num_features`` features.

    Attributes:
        num_heads: the number of tasks for one head a task, 1 for a shared head.
        init_scale: factor on the initial weights.
    """

    num_features: int
    out_dim: int
    num_heads: int
    init_scale: float = 1.0

    def parameters(self) -> dict[str, Parameter]:
        kind: Kind = "owned" if self.num_heads > 1 else "shared"
        shape = (self.out_dim, self.num_features)
        return {
            "weight": Parameter(
                shape, he_uniform(self.num_features, self.init_scale), kind, exact=True
            ),
            "bias": Parameter(shape[:1], 0.0, kind, exact=True),
        }

    def outputs(self, p: Named, hidden: Tensor, scale: Tensor | None) -> Tensor:
        """Own-head outputs ``[K, T, b, out]`` of features ``[K, T, b, F]``.

        Args:
            scale: ``[K, T]``, of the gradients that tasks send into ``hidden``.
        """
        members, tasks, batch, _ = hidden.shape
        if batch == 1 and not torch.is_grad_enabled():
            # Acting in one environment a task: products of a matrix with a vector.
            weights = p["weight"].expand(-1, tasks, -1, -1)
            product = torch.einsum("ktbh,ktoh->ktbo", hidden, weights)
            return product + p["bias"].unsqueeze(2)
        if scale is not None:
            hidden = ScaleTasks.apply(hidden, scale)
        weight = p["weight"].flatten(0, 1)
        bias = p["bias"].flatten(0, 1)
        # One group of rows a head: those of its task, or of all tasks where the head is shared.
        rows = hidden.view(weight.shape[0], -1, self.num_features)
        out: Tensor = LinearHeads.apply(rows, weight, bias)
        return out.reshape(members, tasks, batch, self.out_dim)

    @torch.no_grad()
    def rescale(self, p: Named, old: Scale, new: Scale) -> None:
        """Change the heads in place, so that their outputs on the new scale stand for what they did on the old one."""
        p["weight"].mul_((old.std / new.std)[..., None, None])
        before, after = old.std.unsqueeze(-1), new.std.unsqueeze(-1)
        shift = (old.mean - new.mean).unsqueeze(-1)
        moved = before * p["bias"] + shift
        p["bias"].copy_(moved / after)
