"""Means over a task's samples in which samples may have weights of their own."""

from __future__ import annotations

from torch import Tensor

Weight = Tensor | None
"""Factors of samples, ``[S, T, b]``; None where all are 1."""


def weighted_mean(x: Tensor, weight: Weight) -> Tensor:
    """``mean(weight x)`` over samples, ``[..., b] → [...]``; the plain mean with None."""
    if weight is None:
        return x.mean(-1)
    return (x * weight).mean(-1)


def times(one: Weight, other: Weight) -> Weight:
    """The product of two weights."""
    if one is None or other is None:
        return other if one is None else one
    return one * other
