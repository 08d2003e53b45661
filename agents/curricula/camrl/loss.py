"""The composite loss of one row of CAMRL's transfer matrix (Huang et al., TPAMI 2023), on small float64 tensors."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

NUM_TERMS = 5
OFFSET = 0.01  # ranks are read just below an entry, so that it does not count itself


def soft_rank(values: Tensor, sharpness: float) -> Tensor:
    """Differentiable descending ranks ``[n]`` of ``[n]``: 1 for the largest entry, n for the smallest.

    ``n − Σ_i [½ tanh(d (p − p_i)) + ½]`` at ``p`` just below each entry. As ``sharpness`` d grows these are the true
    ranks of entries more than ``OFFSET`` apart; entries closer than that share the lower rank. The gradient is that of
    the formula itself: nothing is detached.
    """
    below = values.unsqueeze(1) - OFFSET - values.unsqueeze(0)
    larger_than = 0.5 * torch.tanh(sharpness * below) + 0.5
    return len(values) - larger_than.sum(1)


def true_rank(values: Tensor) -> Tensor:
    """Descending ranks ``[n]``, 1 for the largest; equal entries get the mean of their ranks."""
    row = values.unsqueeze(0)
    column = values.unsqueeze(1)
    larger = (row > column).sum(1)
    # Every entry equals itself.
    equal = (row == column).sum(1) - 1
    return 1 + larger + 0.5 * equal


class Situation(NamedTuple):
    """Inputs of a row's loss besides the row.

    Attributes:
        transfer: B ``[T, T]``, ``B_ts`` is the transfer from t to s.
        trained: bool ``[T]``, tasks that have had their turn in this round.
        loss: l ``[T]``, each task's loss in [0, 1].
        products: ``[T, T]``, inner products of the tasks' parameters.
        similarity: ``[T, T]``, of their policies, larger where more alike.
        prior: indices of the tasks of a given ordering, first the one that should receive most; may be empty.
    """

    transfer: Tensor
    trained: Tensor
    loss: Tensor
    products: Tensor
    similarity: Tensor
    prior: Tensor


class Shape(NamedTuple):
    """Constants of the loss: mu1, mu2 and the sharpness d of soft ranks."""

    mu1: float = 0.2
    mu2: float = 0.2
    sharpness: float = 200.0


def row_terms(
    row: Tensor,
    task: int,
    at: Situation,
    shape: Shape,
) -> Tensor:
    """The five terms ``[5]`` of the loss of row ``task`` at ``row`` ``[T]``, before weights.

    0. ``(1 + mu1 Σ_{j≠t} B_tj) l_t − mu2 b_tᵀ l``: send from tasks that do well to tasks that do not;
    1. ``Σ_{s untrained, s≠t} ‖w_s − Σ_{j trained} B_js w_j − B_ts w_t‖²``: explain the parameters of those to come;
    2. squared distance of soft ranks from a prior ordering;
    3. the same from the ranks by loss, hardest first;
    4. the same from the ranks by similarity of the policies.

    The ranks in 3 and 4 are among the other tasks: how much a task keeps for itself is not a matter of rank.
    """
    count = len(row)
    others = torch.arange(count) != task
    sent = row[others].sum()
    send = (1 + shape.mu1 * sent) * at.loss[task] - shape.mu2 * row @ at.loss
    # How much a task keeps for itself is not a matter of rank.
    ranks = soft_rank(row[others], shape.sharpness)
    by_loss = true_rank(at.loss[others])
    by_similarity = true_rank(at.similarity[task, others])
    terms = [
        send,
        _unexplained(row, task, at),
        _prior(row, at, shape),
        (by_loss - ranks).square().sum(),
        (by_similarity - ranks).square().sum(),
    ]
    return torch.stack(terms)


def _unexplained(row: Tensor, task: int, at: Situation) -> Tensor:
    """Term 1, through the inner products alone."""
    count = len(row)
    given = torch.where(at.trained.unsqueeze(1), at.transfer, 0.0)
    unit = torch.eye(count, dtype=row.dtype)
    coefficients = unit - given.T - row.unsqueeze(1) * unit[task]
    # ‖Σ c_j w_j‖² = cᵀ(WWᵀ)c, so the parameters themselves, as long as networks, are not needed.
    distance = (coefficients @ at.products * coefficients).sum(1)
    counted = ~at.trained & (torch.arange(count) != task)
    return torch.where(counted, distance, 0.0).sum()


def _prior(row: Tensor, at: Situation, shape: Shape) -> Tensor:
    """Term 2, among the tasks that the prior orders."""
    wanted = torch.arange(1, len(at.prior) + 1, dtype=row.dtype)
    ranks = soft_rank(row[at.prior], shape.sharpness)
    return (wanted - ranks).square().sum()
