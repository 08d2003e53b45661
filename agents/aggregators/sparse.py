"""Sparse training: of every neuron only the largest input weights train, under a mask fixed at the start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtrl.agents.aggregators.around import Around
from mtrl.agents.aggregators.base import check, check_types


@dataclass(frozen=True)
class Sparse(Around):
    """``base`` on the gradients that pass a mask, which the caller draws and applies (``sparse_mask``).

    The mask names, for each neuron of the shared trunk, the ``keep`` input weights of largest magnitude at the start.
    Gradients of all other input weights are zero before anything looks at them: the Gramian, the norm clip, Adam. Those
    weights keep their initial values. Biases, gains and heads train as ever.

    Attributes:
        base: the aggregator of the masked gradients.
        keep: K.
    """

    keep: int = 1

    label: ClassVar[str] = "sparse"

    def __post_init__(self) -> None:
        check_types(self)
        check(self.keep >= 1, "keep", self.keep, "at least 1")


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
