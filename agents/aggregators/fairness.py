"""Nash-MTL and FairGrad: ``G α = α^(−1/a)``, by a damped Newton method on the convex potential behind it."""

from __future__ import annotations

from dataclasses import dataclass

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
    given,
)
from mtrl.agents.aggregators.linalg import (
    add_diagonal,
    correlation,
    diagonal,
    matvec,
    may_stop,
    or_one,
    ridge_floor,
    spd_solve,
)


@dataclass(frozen=True)
class FairGrad(Aggregator):
    """``G α = (c / α)^(1/a)`` with c = 1, or m times the preferences.

    Zero gradients get weight 0; if all are zero, the weights are those of the mean.
    """

    a: float = 1.0
    """Degree of fairness; 1 is proportional (Nash), towards 0 the mean, towards infinity max–min."""
    ridge: float = 1e-6
    """Added to the Gramian of the unit gradients. Bounds the weights near Pareto-stationary points, where the
    equation has no solution; 1e-3 is also seen, which moves the third digit of an ordinary solution."""

    @property
    def info(self) -> AggregatorInfo:
        return AggregatorInfo(
            "fairgrad",
            frozenset({"gramian"}),
            "Ban & Ji 2024 (arXiv 2402.15638), algorithm 1",
            shares="preferences",
            scale_free=self.a == 1,
        )

    def __post_init__(self) -> None:
        check_types(self)
        check(self.a > 0, "a", self.a, "above 0")
        check(self.ridge >= 0, "ridge", self.ridge, "at least 0")

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        gramian = given(inputs.gramian)
        ridge = self.ridge + ridge_floor(gramian.shape[-1], eps)
        weights, residual = power_equation(gramian, 1 / self.a, ridge, inputs.preferences)
        return Solution(weights, residual, residual < 1e-6, {})


@dataclass(frozen=True)
class NashMTL(Aggregator):
    """``G α = c/α`` with c = 1, or m times the preferences (the asymmetric solution), then the update's norm clipped.

    Combine with ``every`` to hold the weights for k updates.
    """

    max_norm: float = 1.0
    """Largest ``‖Jᵀα‖``; 0 leaves it alone. Unclipped it is √m whatever the gradients."""
    ridge: float = 1e-6
    """As in ``FairGrad``."""

    info = AggregatorInfo(
        "nash-mtl",
        frozenset({"gramian"}),
        "Navon et al. 2022 (arXiv 2202.01017), algorithm 1",
        shares="preferences",
        scale_free=True,
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(
            self.max_norm >= 0,
            "max_norm",
            self.max_norm,
            "at least 0 (0: no clipping)",
        )
        check(self.ridge >= 0, "ridge", self.ridge, "at least 0")

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        gramian = given(inputs.gramian)
        ridge = self.ridge + ridge_floor(gramian.shape[-1], eps)
        weights, residual = power_equation(gramian, 1.0, ridge, inputs.preferences)
        if self.max_norm > 0:
            squared = (weights * matvec(gramian, weights)).sum(-1, keepdim=True)
            norm = squared.clamp(min=0).sqrt()
            clip = torch.where(norm > self.max_norm, self.max_norm / norm, 1.0)
            weights = weights * clip
        return Solution(weights, residual, residual < 1e-6, {})


def power_equation(
    gramian: Tensor,
    power: float,
    ridge: float,
    preferences: Tensor | None = None,
    iterations: int = 16,
) -> tuple[Tensor, Tensor]:
    """Solve ``G α = (c / α)^power`` for α > 0, with c = 1 or m times ``preferences``.

    With unit gradients, ``β_i = α_i ‖g_i‖``, it reads ``C β = k β^(−power)``, ``k_i = c_i^power ‖g_i‖^(power − 1)``: a
    stationary point of the convex ``½ βᵀCβ − Σ k_i ∫β_i^(−power)``. The step along a Newton direction is the one of a
    fixed set at which the slope is smallest.

    Returns:
        α ``[..., m]`` and ``max_i |(Cβ)_i β_i^power / k_i − 1|``.
    """
    cosine, norms, active = correlation(gramian)
    matrix = add_diagonal(cosine, ridge)
    unit = (norms * active).amax(-1, keepdim=True)
    unit = or_one(unit)
    k = torch.where(active, norms / unit, 1.0) ** (power - 1)
    if preferences is not None:
        share = gramian.shape[-1] * preferences
        k = k * torch.where(active & (share > 0), share, 1.0) ** power
    beta = k ** (1 / (1 + power))
    # Along this start, the length at which the potential is smallest.
    pull = (k * beta ** (1 - power)).sum(-1)
    curvature = (beta * matvec(matrix, beta)).sum(-1)
    length = pull / curvature.clamp(min=1e-9)
    beta = beta * length.unsqueeze(-1) ** (1 / (1 + power))
    # From 1 down, then up: at a tie the full step comes first.
    exponents = torch.arange(16, dtype=matrix.dtype, device=matrix.device)
    grid = 2.0 ** torch.where(exponents < 9, -exponents, exponents - 8)
    for _ in range(iterations):
        barrier = k * beta**-power
        slope = matvec(matrix, beta) - barrier
        if may_stop(slope.abs() <= 1e-13 * barrier):
            break
        hessian = add_diagonal(matrix, power * barrier / beta)
        step = spd_solve(hessian, -slope.unsqueeze(-1)).squeeze(-1)
        # Not quite to the boundary, where the barrier is infinite.
        limit = torch.where(step < 0, -beta / step, torch.inf).amin(-1, keepdim=True)
        sizes = torch.minimum(grid, 0.99 * limit)
        trial = beta.unsqueeze(-2) + sizes.unsqueeze(-1) * step.unsqueeze(-2)
        linear = ((slope + barrier) * step).sum(-1, keepdim=True)
        square = (step * matvec(matrix, step)).sum(-1, keepdim=True)
        barriers = k.unsqueeze(-2) * trial**-power * step.unsqueeze(-2)
        along = linear + sizes * square - barriers.sum(-1)
        best = along.abs().argmin(-1, keepdim=True)
        index = best.unsqueeze(-1).expand_as(trial[..., :1, :])
        beta = trial.gather(-2, index).squeeze(-2)
    error = (matvec(matrix, beta) * beta**power / k - 1).abs()
    residual = error.masked_fill(~active, 0.0).amax(-1)
    of_unit = torch.where(active, beta / norms, 0.0)
    alpha = of_unit * unit ** ((power - 1) / (power + 1))
    none = ~(diagonal(gramian) > 0).any(-1, keepdim=True)
    return torch.where(none, 1 / gramian.shape[-1], alpha), residual
