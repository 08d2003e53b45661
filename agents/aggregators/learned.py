"""GradNorm and SDMGrad: weights that descend on an objective of their own, a little in every update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtrl.agents.aggregators.base import (
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
from mtrl.agents.aggregators.linalg import diagonal, or_one


@dataclass(frozen=True)
class GradNorm(Aggregator):
    """Gradient descent on ``Σ |w_i ‖g_i‖ − n̄ r_i^α|`` (n̄ the mean weighted norm, r the relative inverse training
    rate, both held fixed), then ``Σ w = m``.

    Norms enter in units of n̄, so that the step size does not depend on the scale of the gradients.
    """

    alpha: float = 1.5
    """Strength of the pull towards equal training rates (0.12 is also seen)."""
    lr: float = 0.025
    """Step size."""
    floor: float = 1e-3
    """Smallest weight, in units of the mean weight."""

    layout: ClassVar = {"weights": ("m", 1.0), "first_losses": ("m", 0.0)}
    info = AggregatorInfo(
        "gradnorm",
        frozenset({"gramian", "losses"}),
        "Chen et al. 2018 (arXiv 1711.02257), algorithm 1",
        True,
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(self.alpha >= 0, "alpha", self.alpha, "at least 0")
        check(self.lr > 0, "lr", self.lr, "above 0")
        check(0 < self.floor < 1, "floor", self.floor, "in (0, 1)")

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        losses = given(inputs.losses)
        m = losses.shape[-1]
        stored = state["first_losses"]
        first = torch.where(stored > 0, stored, losses.clamp(min=1e-30))
        weights = state["weights"]
        norms = diagonal(given(inputs.gramian)).clamp(min=0).sqrt()
        mean = (weights * norms).mean(-1, keepdim=True)
        norms = norms / or_one(mean)
        rate = losses.clamp(min=0) / first
        average = rate.mean(-1, keepdim=True)
        target = (rate / or_one(average)) ** self.alpha
        slope = (weights * norms - target).sign()
        weights = weights - self.lr * norms * slope
        weights = weights.clamp(min=self.floor)
        weights = weights * (m / weights.sum(-1, keepdim=True))
        return exact(weights, {"weights": weights, "first_losses": first})


@dataclass(frozen=True)
class SDMGrad(Aggregator):
    """Projected descent on ``½ ‖Jᵀw + λ g0‖²`` over the simplex; update ``Jᵀ(w + λ/m) / (1 + λ)``.

    The descent uses ``J₁J₂ᵀ`` of two independent half batches, an unbiased Gramian, in units of its mean squared norm,
    and continues from the last update's w.
    """

    lambda_: float = 0.3
    """Pull towards the mean gradient (0.6 was used in RL)."""
    lr: float = 10.0
    """Step size."""
    momentum: float = 0.5
    """Of the descent."""
    steps: int = 20
    """Descent steps per update."""

    layout: ClassVar = {"offset": ("m", 0.0)}
    info = AggregatorInfo(
        "sdmgrad",
        frozenset({"cross_gramian"}),
        "Xiao et al. 2023 (arXiv 2305.18409), algorithm 1",
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(
            self.lambda_ >= 0,
            "lambda_",
            self.lambda_,
            "at least 0",
        )
        check(self.lr > 0, "lr", self.lr, "above 0")
        check(
            0 <= self.momentum < 1,
            "momentum",
            self.momentum,
            "in [0, 1)",
        )
        check(self.steps >= 1, "steps", self.steps, "at least 1")

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        cross = given(inputs.cross_gramian)
        norms = diagonal(cross).clamp(min=0).sqrt()
        unit = norms.mean(-1)[..., None, None] ** 2
        # No positive diagonal entry: the halves disagree entirely, and the largest entry is the only scale left.
        largest = cross.abs().amax((-1, -2), keepdim=True)
        unit = torch.where(unit > 0, unit, largest)
        matrix = (cross / or_one(unit)).mT.contiguous()
        uniform = 1 / cross.shape[-1]
        pull = self.lambda_ * uniform
        # Time goes by the number of operations here, so the loop moves w + pull, as a row.
        row = state["offset"].unsqueeze(-2) + (uniform + pull)
        onto_simplex = SimplexProjection(row, pull)
        velocity = torch.zeros_like(row)
        for _ in range(self.steps):
            velocity = torch.add(row @ matrix, velocity, alpha=self.momentum)
            row = onto_simplex(row.sub(velocity, alpha=self.lr))
        fixed = onto_simplex(row - row @ matrix)
        residual = (row - fixed).abs().amax((-1, -2))
        row = row.squeeze(-2)
        weights = row / (1 + self.lambda_)
        solution = exact(weights, {"offset": row - (uniform + pull)})
        return solution._replace(residual=residual)


class SimplexProjection:
    """Nearest point of the probability simplex moved by ``shift`` along all axes, ``[..., m]`` (Held et al. 1974)."""

    def __init__(self, like: Tensor, shift: float = 0.0) -> None:
        self.shift = shift
        m = like.shape[-1]
        counts = torch.arange(
            1,
            m + 1,
            dtype=like.dtype,
            device=like.device,
        )
        self.share = 1 / counts
        self.offset = -self.share - shift

    def __call__(self, x: Tensor) -> Tensor:
        largest_first = x.sort(-1, descending=True).values
        sums = largest_first.cumsum(-1)
        # Largest where the last entry that stays is counted, so a maximum replaces the search for that entry.
        excess = torch.addcmul(self.offset, sums, self.share)
        moved = x - excess.amax(-1, keepdim=True)
        return moved.clamp(min=self.shift)
