"""MGDA, UPGrad and DualProj: directions that increase no task's loss to first order."""

from __future__ import annotations

from dataclasses import dataclass

import torch

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
from mtrl.agents.aggregators.linalg import correlation, ridge_floor
from mtrl.agents.aggregators.quadratic import dual_cone, min_norm_point


@dataclass(frozen=True)
class MGDA(Aggregator):
    """Shortest vector in the convex hull of the gradients; the residual is the duality gap in units of the norms."""

    info = AggregatorInfo(
        "mgda",
        frozenset({"gramian"}),
        "Désidéri 2012; Sener & Koltun 2018 (arXiv 1810.04650)",
        shares="groups",
    )

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        gramian = given(inputs.gramian)
        ridge = ridge_floor(gramian.shape[-1], eps)
        # A task that takes no part has a gradient of zero, which is not the answer.
        absent = None if inputs.preferences is None else inputs.preferences <= 0
        weights, gap = min_norm_point(*correlation(gramian), ridge, absent)
        return Solution(weights, gap, gap < 1e-6, {})


@dataclass(frozen=True)
class UPGrad(Aggregator):
    """Mean of the projections of each gradient on the cone ``{d : J d ≥ 0}``."""

    reg: float = 1e-4
    """Added to the diagonal of the Gramian, in units of its trace: a task whose gradient is shorter than about √reg
    of the longest is not protected. Below 1e-9 rank-deficient problems are slow to converge."""
    pivots: int = 5
    """Active-set steps of the solver. A GPU takes all of them and stops there: raise it for more tasks than the
    gradients have dimensions."""

    info = AggregatorInfo(
        "upgrad",
        frozenset({"gramian"}),
        "Quinton & Rey 2024 (arXiv 2406.16232), eq. 3",
        shares="losses",
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(self.reg >= 0, "reg", self.reg, "at least 0")
        check(
            self.pivots >= 1,
            "pivots",
            self.pivots,
            "at least 1",
        )

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        gramian = given(inputs.gramian)
        m = gramian.shape[-1]
        # Every gradient alone is projected; the update is the mean of the projections.
        each = torch.eye(m, dtype=gramian.dtype, device=gramian.device).expand_as(gramian)
        v, residual = dual_cone(
            gramian,
            each,
            max(self.reg, ridge_floor(m, eps) / m),
            self.pivots,
        )
        worst = residual.amax(-1)
        return Solution(v.mean(-2), worst, worst < 1e-6, {})


@dataclass(frozen=True)
class DualProj(UPGrad):
    """Projection of the mean gradient on the same cone (GEM)."""

    info = AggregatorInfo(
        "dualproj",
        frozenset({"gramian"}),
        "Lopez-Paz & Ranzato 2017 (arXiv 1706.08840), GEM",
        shares="losses",
    )

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        gramian = given(inputs.gramian)
        m = gramian.shape[-1]
        mean = torch.full_like(gramian[..., :1, :], 1 / m)
        v, residual = dual_cone(
            gramian,
            mean,
            max(self.reg, ridge_floor(m, eps) / m),
            self.pivots,
        )
        return Solution(
            v.squeeze(-2),
            residual.squeeze(-1),
            residual.squeeze(-1) < 1e-6,
            {},
        )
