"""Weights that follow an optimiser of their own: GradNorm and SDMGrad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.aggregators.base import (
    Aggregator,
    AggregatorInfo,
    Inputs,
    Solution,
    State,
    check,
    check_types,
    exact,
    given,
)
from agents.aggregators.linalg import diagonal, matvec


@dataclass(frozen=True)
class GradNorm(Aggregator):
    """Gradient descent on ``Σ |w_i ‖g_i‖ − n̄ r_i^α|`` (n̄ the mean weighted norm, r the relative inverse training
    rate, both held fixed), then ``Σ w = m``.

    Norms enter in units of n̄, so that the step size does not depend on the scale of the gradients.

    Attributes:
        alpha: strength of the pull towards equal training rates (0.12 is also seen).
        lr: step size.
        floor: smallest weight, in units of the mean weight.
    """

    alpha: float = 1.5
    lr: float = 0.025
    floor: float = 1e-3

    layout: ClassVar = {"weights": ("m", 1.0), "first_losses": ("m", 0.0)}
    info = AggregatorInfo(
        "gradnorm", frozenset({"gramian", "losses"}), "Chen et al. 2018 (arXiv 1711.02257), algorithm 1", True
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(self.alpha >= 0, "alpha", self.alpha, "at least 0")
        check(self.lr > 0, "lr", self.lr, "above 0")
        check(0 < self.floor < 1, "floor", self.floor, "in (0, 1)")

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        losses, m = given(inputs.losses), given(inputs.losses).shape[-1]
        first = torch.where(state["first_losses"] > 0, state["first_losses"], losses.clamp(min=1e-30))
        weights = state["weights"]
        norms = diagonal(given(inputs.gramian)).clamp(min=0).sqrt()
        mean = (weights * norms).mean(-1, keepdim=True)
        norms = norms / torch.where(mean > 0, mean, 1.0)
        rate = losses.clamp(min=0) / first
        average = rate.mean(-1, keepdim=True)
        target = (rate / torch.where(average > 0, average, 1.0)) ** self.alpha
        weights = weights - self.lr * norms * (weights * norms - target).sign()
        weights = weights.clamp(min=self.floor)
        weights = weights * (m / weights.sum(-1, keepdim=True))
        return exact(weights, {"weights": weights, "first_losses": first})


@dataclass(frozen=True)
class SDMGrad(Aggregator):
    """Projected descent on ``½ ‖Jᵀw + λ g0‖²`` over the simplex; update ``Jᵀ(w + λ/m) / (1 + λ)``.

    The descent uses ``J₁J₂ᵀ`` of two independent half batches, an unbiased Gramian, in units of its mean squared norm,
    and continues from the last update's w.

    Attributes:
        lambda_: pull towards the mean gradient (0.6 was used in RL).
        lr: step size.
        momentum: of the descent.
        steps: descent steps per update.
    """

    lambda_: float = 0.3
    lr: float = 10.0
    momentum: float = 0.5
    steps: int = 20

    layout: ClassVar = {"offset": ("m", 0.0)}
    info = AggregatorInfo("sdmgrad", frozenset({"cross_gramian"}), "Xiao et al. 2023 (arXiv 2305.18409), algorithm 1")

    def __post_init__(self) -> None:
        check_types(self)
        check(self.lambda_ >= 0, "lambda_", self.lambda_, "at least 0")
        check(self.lr > 0, "lr", self.lr, "above 0")
        check(0 <= self.momentum < 1, "momentum", self.momentum, "in [0, 1)")
        check(self.steps >= 1, "steps", self.steps, "at least 1")

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        cross = given(inputs.cross_gramian)
        unit = diagonal(cross).clamp(min=0).sqrt().mean(-1)[..., None, None] ** 2
        # No positive diagonal entry: the halves disagree entirely, and the largest entry is the only scale left.
        unit = torch.where(unit > 0, unit, cross.abs().amax((-1, -2), keepdim=True))
        matrix = cross / torch.where(unit > 0, unit, 1.0)
        uniform = 1 / cross.shape[-1]
        w = state["offset"] + uniform
        pull = self.lambda_ * uniform
        velocity = torch.zeros_like(w)
        for _ in range(self.steps):
            velocity = matvec(matrix, w + pull).add(velocity, alpha=self.momentum)
            w = project_simplex(w.sub(velocity, alpha=self.lr))
        residual = (w - project_simplex(w - matvec(matrix, w + pull))).abs().amax(-1)
        out = exact((w + pull) / (1 + self.lambda_), {"offset": w - uniform})
        return out._replace(residual=residual)


def project_simplex(x: Tensor) -> Tensor:
    """Nearest point of the probability simplex, ``[..., m]`` (Held et al. 1974)."""
    ordered = x.sort(-1, descending=True).values
    rank = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype, device=x.device)
    excess = (ordered.cumsum(-1) - 1) / rank  # largest where the last entry that stays above 0 is counted
    return (x - excess.amax(-1, keepdim=True)).clamp(min=0)
