"""Heads that read few of the shared features (Lachapelle et al. 2023, single level).

A group lasso asks every task's head for few features: all of a head's weights of a feature are one group. Its proximal
step after each step of the optimizer gives weights that are exactly 0, which a gradient of the penalty does not. The
paper solves each head on a batch of its own as an inner problem too; that is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import layer_norm

from mtrl.agents.networks.bodies.body import Body, Look, Step, Stepped
from mtrl.agents.networks.layers import Named, Size, hidden_layers, hidden_parameters
from mtrl.agents.networks.parameters import Parameter
from mtrl.agents.networks.shown import Matrices, Shown
from mtrl.agents.settings import NonNegative, settings

EPS = 1e-12  # of norms: a weight of 0 stays 0


@settings
class SparseHeads(Body):
    """Hidden layers, LayerNorm without gain and bias, and heads whose weights ``W_j`` of feature j shrink at each step.

    After a step ``W_j ← W_j max(0, 1 − shrink / ‖W_j‖)`` for every head. Without a fixed scale of features the penalty
    would do nothing: they would grow as weights shrink. Where heads read a memory's state, that state is bounded.
    """

    corrects_heads: ClassVar[bool] = True

    shrink: NonNegative = 3e-5
    """What a step takes off the norm of a group: step size times penalty."""

    def parameters(self, size: Size) -> dict[str, Parameter]:
        return hidden_parameters(size)

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        hidden = hidden_layers(p, x, step.size)
        return layer_norm(hidden, hidden.shape[-1:])

    @property
    def shown(self) -> Mapping[str, Shown]:
        return {
            "heads": Shown(
                rows="heads",
                columns="features",
            )
        }

    def shows(self, look: Look) -> Matrices:
        norm = look.heads.norm(dim=2)
        return {"heads": [norm / norm.amax(-1, keepdim=True).clamp_min(EPS)]}

    def heads_after_step(self, weight: Tensor, step: Stepped) -> Tensor:
        # One group for each feature: all outputs of a head read it, or none does.
        norm = weight.norm(dim=2, keepdim=True)
        kept = (1 - self.shrink / norm.clamp_min(EPS)).clamp_min(0)
        return weight * kept
