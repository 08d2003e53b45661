"""GradDrop and SAM-GS: rules for the coordinates and for the length of the update, which need the Jacobian."""

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
    """Similarity-aware momentum. ψ is the mean over pairs of ``2‖g_i‖‖g_j‖ / (‖g_i‖² + ‖g_j‖²)``.

    Below γ the rows are brought to their mean norm and summed; otherwise the update is the first moment of the sum
    over the root of the running mean of ``(1 − ψ)²``, the better agreed the longer.
    """

    gamma: float = 0.1
    """Threshold on ψ."""
    beta1: float = 0.9
    """Decay of the first moment."""
    beta2: float = 0.99
    """Decay of the mean of ``(1 − ψ)²``."""
    floor: float = 0.1
    """Smallest divisor. Equal norms would otherwise ask for an infinite step."""

    layout: ClassVar = {"moment": ("P", 0.0), "disagreement": ("", 0.0), "count": ("", 0.0)}
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
        check(self.floor > 0, "floor", self.floor, "above 0")

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        rows = given(inputs.jacobian)
        norms = torch.linalg.vector_norm(rows, dim=-1, dtype=torch.float64)
        largest = norms.amax(-1, keepdim=True)
        unit = norms / or_one(largest)
        similarity = _mean_similarity(unit)
        count = state["count"] + 1
        total = rows.sum(-2).to(state["moment"].dtype)
        moment = torch.lerp(state["moment"], total, 1 - self.beta1)
        disagreement = torch.lerp(state["disagreement"], (1 - similarity) ** 2, 1 - self.beta2)
        # Both means start from zero and are corrected for it, as in Adam.
        corrected = disagreement / (1 - self.beta2**count)
        divisor = corrected.sqrt().clamp(min=self.floor)
        momentum = moment.double() / (divisor * (1 - self.beta1**count)).unsqueeze(-1)
        scale = ratio(norms.mean(-1, keepdim=True), norms)
        even = combine(rows, scale.to(rows.dtype)).double()
        conflict = (similarity < self.gamma).unsqueeze(-1)
        direction = torch.where(conflict, even, momentum)
        new = {
            "moment": moment,
            "disagreement": disagreement,
            "count": count,
        }
        return exact(direction, new)


def _mean_similarity(norms: Tensor) -> Tensor:
    """ψ of ``SAMGS``, ``[...]``, from norms ``[..., m]``; 1 for one task."""
    m = norms.shape[-1]
    a = norms.unsqueeze(-1)
    b = norms.unsqueeze(-2)
    squares = a**2 + b**2
    pairs = torch.where(squares > 0, 2 * a * b / or_one(squares), 1.0)
    own = pairs.diagonal(dim1=-2, dim2=-1).sum(-1)
    off = (pairs.sum((-1, -2)) - own) / max(m * (m - 1), 1)
    return off if m > 1 else torch.ones_like(off)
