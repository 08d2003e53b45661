"""PCGrad and GradVac: gradients corrected against each other one after another, in random order."""

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
from mtrl.agents.aggregators.linalg import diagonal, identity, or_one

Reduction = Literal["sum", "mean"]


@dataclass(frozen=True)
class PCGrad(Aggregator):
    """Gradient i loses its component along every gradient j it conflicts with; an order of its own for each i."""

    reduction: Reduction = "mean"
    """The corrected gradients are averaged, which keeps the scale of plain averaging, or summed (the paper)."""

    @property
    def info(self) -> AggregatorInfo:
        return AggregatorInfo(
            "pcgrad",
            frozenset({"gramian", "noise"}),
            "Yu et al. 2020 (arXiv 2001.06782), algorithm 1",
            shares="losses",
            sums=self.reduction == "sum",
        )

    def __post_init__(self) -> None:
        check_types(self)

    def noise_shape(self, num_tasks: int, num_params: int | None = None) -> tuple[int, ...]:
        return (num_tasks, num_tasks)

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        gramian = given(inputs.gramian)
        squared = diagonal(gramian)
        inverse = torch.where(squared > 0, 1 / or_one(squared), 0.0)
        coefficients, products = _start(gramian)
        for j in _orders(given(inputs.noise)):
            # Only negative products are conflicts.
            conflict = -_pick(products, j).clamp(max=0)
            add = conflict * inverse.gather(-1, j)
            coefficients, products = _add(coefficients, products, gramian, j, add)
        return exact(_reduce(coefficients, self.reduction))


@dataclass(frozen=True)
class GradVac(Aggregator):
    """Like PCGrad, but each pair is brought up to a running target of its cosine instead of to zero.

    Where the cosine φ is below its target φ̂, ``‖g_i‖ (φ̂ √(1−φ²) − φ √(1−φ̂²)) / (‖g_j‖ √(1−φ̂²))`` of g_j is added.
    """

    beta: float = 0.5
    """Step of the running target."""
    reduction: Reduction = "mean"
    """Mean or sum (the paper) of the corrected gradients, as for PCGrad."""

    layout: ClassVar = {"target": ("mm", 0.0)}

    @property
    def info(self) -> AggregatorInfo:
        return AggregatorInfo(
            "gradvac",
            frozenset({"gramian", "noise"}),
            "Wang et al. 2021 (arXiv 2010.05874)",
            shares="losses",
            sums=self.reduction == "sum",
        )

    def __post_init__(self) -> None:
        check_types(self)
        check(0 <= self.beta <= 1, "beta", self.beta, "in [0, 1]")

    def noise_shape(self, num_tasks: int, num_params: int | None = None) -> tuple[int, ...]:
        return (num_tasks, num_tasks)

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        gramian = given(inputs.gramian)
        target = state["target"]
        norms = diagonal(gramian).clamp(min=0).sqrt()
        coefficients, products = _start(gramian)
        for j in _orders(given(inputs.noise)):
            # The corrected gradient's norm, from its coefficients and its products with the originals.
            own = (products * coefficients).sum(-1).clamp(min=0).sqrt()
            other = norms.gather(-1, j)
            both = (own > 0) & (other > 0)
            quotient = _pick(products, j) / torch.where(both, own * other, 1.0)
            cosine = torch.where(both, quotient, 0.0).clamp(-1, 1)
            goal = _pick(target, j)
            sine = (1 - cosine**2).sqrt()
            goal_sine = (1 - goal**2).clamp(min=1e-12).sqrt()
            divisor = torch.where(both, other * goal_sine, 1.0)
            add = own * (goal * sine - cosine * goal_sine) / divisor
            add = torch.where(both & (cosine < goal), add, 0.0)
            coefficients, products = _add(coefficients, products, gramian, j, add)
            moved = torch.lerp(goal, cosine, self.beta)
            target = target.scatter(-1, j.unsqueeze(-1), moved.unsqueeze(-1))
        weights = _reduce(coefficients, self.reduction)
        return exact(weights, {"target": target})


def _start(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients ``C = I`` of the corrected gradients, and ``C G``, their products with the originals."""
    coefficients = identity(gramian).expand_as(gramian)
    return coefficients, gramian


def _add(
    coefficients: Tensor,
    products: Tensor,
    gramian: Tensor,
    j: Tensor,
    add: Tensor,
) -> tuple[Tensor, Tensor]:
    """Add ``add`` ``[..., m]`` of gradient ``j`` ``[..., m]`` to each corrected gradient."""
    coefficients = coefficients.scatter_add(-1, j.unsqueeze(-1), add.unsqueeze(-1))
    products = products + add.unsqueeze(-1) * _rows(gramian, j)
    return coefficients, products


def _reduce(coefficients: Tensor, reduction: Reduction) -> Tensor:
    if reduction == "sum":
        return coefficients.sum(-2)
    return coefficients.mean(-2)


def _orders(noise: Tensor) -> tuple[Tensor, ...]:
    """m − 1 index tensors ``[..., m]``: the k-th partner of each task, itself left out."""
    own = torch.eye(noise.shape[-1], dtype=torch.bool, device=noise.device)
    # Infinite noise sorts the task itself last, and the last column is dropped.
    order = noise.masked_fill(own, torch.inf).argsort(-1)
    return order[..., :-1].unbind(-1)


def _pick(matrix: Tensor, j: Tensor) -> Tensor:
    return matrix.gather(-1, j.unsqueeze(-1)).squeeze(-1)


def _rows(matrix: Tensor, j: Tensor) -> Tensor:
    columns = j.unsqueeze(-1).expand(*j.shape, matrix.shape[-1])
    return matrix.gather(-2, columns)
