"""Sparse training: of every neuron only the largest input weights train, under a mask fixed at the start."""

from __future__ import annotations

import dataclasses
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
)


@dataclass(frozen=True)
class Sparse(Aggregator):
    """``base`` on the gradients that pass a mask, which the caller draws and applies (``sparse_mask``).

    The mask names, for each neuron of the shared trunk, the ``keep`` input weights of largest magnitude at the start.
    Gradients of all other input weights are zero before anything looks at them: the Gramian, the norm clip, Adam. Those
    weights keep their initial values. Biases, gains and heads train as ever.

    Attributes:
        base: the aggregator of the masked gradients.
        keep: K.
    """

    base: Aggregator
    keep: int = 1

    @property
    def info(self) -> AggregatorInfo:
        base = self.base.info
        return dataclasses.replace(base, name=f"sparse({base.name})")

    def __post_init__(self) -> None:
        check_types(self)
        check(self.keep >= 1, "keep", self.keep, "at least 1")

    def init(
        self,
        num_tasks: int,
        *,
        num_params: int | None = None,
        batch_shape: tuple[int, ...] = (),
        device: torch.device | str | None = None,
    ) -> State:
        """The base's state; the mask is the caller's."""
        return self.base.init(
            num_tasks, num_params=num_params, batch_shape=batch_shape, device=device
        )

    def noise_shape(
        self, num_tasks: int, num_params: int | None = None
    ) -> tuple[int, ...] | None:
        """The base's noise."""
        return self.base.noise_shape(num_tasks, num_params)

    def preference_text(self) -> str:
        return self.base.preference_text()

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        return self.base._solve(inputs, state, eps)


def sparse_mask(weight: Tensor, keep: int) -> Tensor:
    """Mask of sparse training: per neuron (row) the ``keep`` input weights of largest magnitude.

    Args:
        weight: ``[..., out, in]``, the initial weights.

    Returns:
        bool, same shape, exactly ``min(keep, in)`` true entries in every row.

    Raises:
        AgentError: ``keep`` < 1.
    """
    check(keep >= 1, "keep", keep, "at least 1")
    sizes = weight.detach().abs()
    kept = min(keep, weight.shape[-1])
    top = sizes.topk(kept, dim=-1).indices
    return torch.zeros_like(weight, dtype=torch.bool).scatter(-1, top, True)
