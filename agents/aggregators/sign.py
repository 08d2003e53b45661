"""GradDrop and SAM-GS: rules for the coordinates and for the length of the update, which need the Jacobian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

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
from mtrl.agents.aggregators.gramians import combine
from mtrl.agents.aggregators.linalg import or_one, ratio


@dataclass(frozen=True)
class GradDrop(Aggregator):
    """Each coordinate keeps only its positive or only its negative entries, drawn by their share of the magnitude."""

    leak: float = 0.0
    """Part of each gradient that passes regardless."""

    info = AggregatorInfo(
        "graddrop",
        frozenset({"jacobian", "noise"}),
        "Chen et al. 2020 (arXiv 2010.06808), alg. 1",
        direction_only=True,
        shares="losses",
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(0 <= self.leak <= 1, "leak", self.leak, "in [0, 1]")

    def noise_shape(self, num_tasks: int, num_params: int | None = None) -> tuple[int, ...]:
        return (num_params or 0,)

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        rows = given(inputs.jacobian)
        noise = given(inputs.noise)
        up = rows.clamp(min=0).sum(-2)
        down = rows.clamp(max=0).sum(-2)
        size = up - down
        # A coordinate without any gradient has no sign to prefer.
        purity = torch.where(size > 0, up / or_one(size), 0.5)
        kept = torch.where(purity > noise, up, down)
        return exact(self.leak * (up + down) + (1 - self.leak) * kept)


@dataclass(frozen=True)
class SAMGS(Aggregator):
    """Similarity-aware momentum: ``Σ_k |m̂_k| / (√ĥ + ε) ⊙ g_k``, coordinate by coordinate.

    ``m_k`` is the first moment of task k's gradient and h the running mean of ``(1 − ψ)²``, both corrected for their
    start as in Adam. The similarity of a pair is ``2‖g_i‖‖g_j‖ / (‖g_i‖² + ‖g_j‖²)``, and ψ its mean over pairs. Where
    the gradients are not similar, their rows are brought to the mean norm and summed instead.
    """

    gamma: float = 0.1
    """Threshold on the similarity (0.9 was used on MT10, with `test=any`)."""
    test: Literal["mean", "any"] = "mean"
    """Whether the mean similarity has to be below gamma, or that of any pair."""
    beta1: float = 0.9
    """Decay of the first moments."""
    beta2: float = 0.99
    """Decay of the mean of ``(1 − ψ)²``."""
    eps: float = 1e-3
    """Added to the root. Equal norms would otherwise ask for an infinite step."""

    layout: ClassVar = {"moment": ("mP", 0.0), "disagreement": ("", 0.0), "count": ("", 0.0)}
    info = AggregatorInfo(
        "sam-gs",
        frozenset({"jacobian"}),
        "Borsani et al. 2025 (arXiv 2506.06130)",
        direction_only=True,
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(
            0 <= self.beta1 < 1,
            "beta1",
            self.beta1,
            "in [0, 1)",
        )
        check(
            0 <= self.beta2 < 1,
            "beta2",
            self.beta2,
            "in [0, 1)",
        )
        check(self.eps > 0, "eps", self.eps, "above 0")

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        rows = given(inputs.jacobian)
        norms = torch.linalg.vector_norm(rows, dim=-1, dtype=torch.float64)
        largest = norms.amax(-1, keepdim=True)
        unit = norms / or_one(largest)
        mean, least = _similarity(unit)
        count = state["count"] + 1
        moment = torch.lerp(state["moment"].to(rows.dtype), rows, 1 - self.beta1)
        disagreement = torch.lerp(state["disagreement"], (1 - mean) ** 2, 1 - self.beta2)
        # Both means start from zero and are corrected for it.
        corrected = disagreement / (1 - self.beta2**count)
        divisor = (corrected.sqrt() + self.eps) * (1 - self.beta1**count)
        momentum = (moment.abs() * rows).sum(-2).double() / divisor.unsqueeze(-1)
        scale = ratio(norms.mean(-1, keepdim=True), norms)
        even = combine(rows, scale.to(rows.dtype)).double()
        judged = mean if self.test == "mean" else least
        direction = torch.where((judged < self.gamma).unsqueeze(-1), even, momentum)
        new = {
            "moment": moment.to(state["moment"].dtype),
            "disagreement": disagreement,
            "count": count,
        }
        return exact(direction, new)


def _similarity(norms: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and least similarity of pairs as in ``SAMGS``, ``[...]`` each, from norms ``[..., m]``; 1 for one task."""
    m = norms.shape[-1]
    a = norms.unsqueeze(-1)
    b = norms.unsqueeze(-2)
    squares = a**2 + b**2
    pairs = torch.where(squares > 0, 2 * a * b / or_one(squares), 1.0)
    own = pairs.diagonal(dim1=-2, dim2=-1).sum(-1)
    mean = (pairs.sum((-1, -2)) - own) / max(m * (m - 1), 1)
    # The similarity of a task with itself is 1, so it is never the least.
    least = pairs.amin((-1, -2))
    return (mean, least) if m > 1 else (torch.ones_like(mean), least)
