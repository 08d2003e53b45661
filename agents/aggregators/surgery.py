"""PCGrad and GradVac: each gradient is corrected against the others, one after another, in random order."""

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
from mtrl.agents.aggregators.linalg import diagonal

Reduction = Literal["sum", "mean"]


@dataclass(frozen=True)
class PCGrad(Aggregator):
    """Gradient i loses its component along every gradient j it conflicts with; an order of its own for each i."""

    reduction: Reduction = "sum"
    """The corrected gradients are summed (the paper) or averaged."""

    info = AggregatorInfo(
        "pcgrad", frozenset({"gramian", "noise"}), "Yu et al. 2020 (arXiv 2001.06782), algorithm 1"
    )

    def __post_init__(self) -> None:
        check_types(self)

    def noise_shape(self, num_tasks: int, num_params: int | None = None) -> tuple[int, ...]:
        return (num_tasks, num_tasks)

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        gramian = given(inputs.gramian)
        squared = diagonal(gramian)
        inverse = torch.where(squared > 0, 1 / torch.where(squared > 0, squared, 1.0), 0.0)
        coefficients, products = _start(gramian)
        for j in _orders(given(inputs.noise)):
            add = -_pick(products, j).clamp(max=0) * inverse.gather(-1, j)
            coefficients = coefficients.scatter_add(-1, j.unsqueeze(-1), add.unsqueeze(-1))
            products = products + add.unsqueeze(-1) * _rows(gramian, j)
        return exact(coefficients.sum(-2) if self.reduction == "sum" else coefficients.mean(-2))


@dataclass(frozen=True)
class GradVac(Aggregator):
    """Like PCGrad, but each pair is brought up to a running target of its cosine instead of to zero.

    Where the cosine φ is below its target φ̂, ``‖g_i‖ (φ̂ √(1−φ²) − φ √(1−φ̂²)) / (‖g_j‖ √(1−φ̂²))`` of g_j is added.
    """

    beta: float = 0.5
    """Step of the running target."""
    reduction: Reduction = "sum"
    """Sum (the paper) or mean of the corrected gradients."""

    layout: ClassVar = {"target": ("mm", 0.0)}
    info = AggregatorInfo(
        "gradvac", frozenset({"gramian", "noise"}), "Wang et al. 2021 (arXiv 2010.05874)"
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(0 <= self.beta <= 1, "beta", self.beta, "in [0, 1]")

    def noise_shape(self, num_tasks: int, num_params: int | None = None) -> tuple[int, ...]:
        return (num_tasks, num_tasks)

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        gramian, target = given(inputs.gramian), state["target"]
        norms = diagonal(gramian).clamp(min=0).sqrt()
        coefficients, products = _start(gramian)
        for j in _orders(given(inputs.noise)):
            own = (products * coefficients).sum(-1).clamp(min=0).sqrt()
            other = norms.gather(-1, j)
            both = (own > 0) & (other > 0)
            cosine = torch.where(
                both, _pick(products, j) / torch.where(both, own * other, 1.0), 0.0
            ).clamp(-1, 1)
            goal = _pick(target, j)
            sine, goal_sine = (1 - cosine**2).sqrt(), (1 - goal**2).clamp(min=1e-12).sqrt()
            add = (
                own * (goal * sine - cosine * goal_sine) / torch.where(both, other * goal_sine, 1.0)
            )
            add = torch.where(both & (cosine < goal), add, 0.0)
            coefficients = coefficients.scatter_add(-1, j.unsqueeze(-1), add.unsqueeze(-1))
            products = products + add.unsqueeze(-1) * _rows(gramian, j)
            target = target.scatter(
                -1, j.unsqueeze(-1), torch.lerp(goal, cosine, self.beta).unsqueeze(-1)
            )
        weights = coefficients.sum(-2) if self.reduction == "sum" else coefficients.mean(-2)
        return exact(weights, {"target": target})


def _start(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients ``C = I`` of the corrected gradients, and ``C G``, their products with the originals."""
    return torch.eye(gramian.shape[-1], dtype=gramian.dtype, device=gramian.device).expand_as(
        gramian
    ), gramian


def _orders(noise: Tensor) -> tuple[Tensor, ...]:
    """m − 1 index tensors ``[..., m]``: the k-th partner of each task, itself left out."""
    own = torch.eye(noise.shape[-1], dtype=torch.bool, device=noise.device)
    return noise.masked_fill(own, torch.inf).argsort(-1)[..., :-1].unbind(-1)


def _pick(matrix: Tensor, j: Tensor) -> Tensor:
    return matrix.gather(-1, j.unsqueeze(-1)).squeeze(-1)


def _rows(matrix: Tensor, j: Tensor) -> Tensor:
    return matrix.gather(-2, j.unsqueeze(-1).expand(*j.shape, matrix.shape[-1]))
