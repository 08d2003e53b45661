"""Weights that depend on no input: the mean, the sum, random weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mtrl.agents.aggregators.base import (
    Aggregator,
    AggregatorInfo,
    Inputs,
    Solution,
    State,
    exact,
    given,
    task_zeros,
)


@dataclass(frozen=True)
class Mean(Aggregator):
    """``w = 1/m``: plain averaging."""

    info = AggregatorInfo("mean", frozenset(), "linear scalarisation", shares="losses")

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        zeros = task_zeros(inputs)
        # A method that alternates with averaging finds its state as it left it.
        return exact(zeros + 1 / zeros.shape[-1], state)


@dataclass(frozen=True)
class Sum(Aggregator):
    """``w = 1``."""

    info = AggregatorInfo(
        "sum", frozenset(), "linear scalarisation", shares="losses", sums=True
    )

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        return exact(task_zeros(inputs) + 1)


@dataclass(frozen=True)
class RandomWeights(Aggregator):
    """Softmax of a standard normal draw, new at every update."""

    info = AggregatorInfo(
        "random",
        frozenset({"noise"}),
        "Lin et al. 2022 (arXiv 2111.10603), RLW",
        shares="losses",
    )

    def noise_shape(self, num_tasks: int, num_params: int | None = None) -> tuple[int, ...]:
        return (num_tasks,)

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        # The inverse of the normal distribution is infinite at 0 and 1.
        inside = given(inputs.noise).clamp(1e-12, 1 - 1e-12)
        return exact(torch.special.ndtri(inside).softmax(-1))
