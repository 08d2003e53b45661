"""Compiled loops that process each distinct row once and sum the gradients of its duplicates.

Arrays are contiguous, and float32 but for numbers of rows. As in ``grid_kernels``, no kernel calls one of another file.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from mtrl.envs.compiled import kernel

# Sums may be taken in any order, which is what lets the compiler use vectors; NaN and infinity keep their meaning.
sums_anyhow = partial(kernel, fastmath={"reassoc", "contract", "nsz"})


@kernel
def sum_rows(grad: Any, inverse: Any, out: Any) -> None:
    """Add each row of ``grad`` ``[K, n, W]`` to row ``inverse`` of ``out`` ``[K, r, W]``."""
    for member in range(grad.shape[0]):
        for i in range(grad.shape[1]):
            row = grad[member, i]
            to = out[member, inverse[i]]
            for k in range(len(row)):
                to[k] += row[k]


@kernel
def renumber(picks: Any, numbers: Any, kept: Any) -> int:
    """Replace the values of ``picks`` ``[n]`` by their numbers in order of appearance; returns how many are distinct.

    Args:
        numbers: -1 for every possible value; the new numbers afterwards.
        kept: receives the values in their new order.
    """
    found = 0
    for i in range(len(picks)):
        value = picks[i]
        if numbers[value] < 0:
            numbers[value], kept[found] = found, value
            found += 1
        picks[i] = numbers[value]
    return found


@kernel
def list_distinct(
    picks: Any,
    seen_in: Any,
    number: int,
    found: Any,
) -> int:
    """Write the distinct values of ``picks`` to ``found``; returns how many there are.

    Args:
        seen_in: for every value the last ``number`` of a call that met it, ``[r]``.
    """
    count = 0
    for pick in picks:
        if seen_in[pick] != number:
            seen_in[pick] = number
            found[count] = pick
            count += 1
    return count


@sums_anyhow
def apply_heads(
    hidden: Any,
    inverse: Any,
    weight: Any,
    bias: Any,
    out: Any,
) -> None:
    """Write the outputs ``[K, T, b, out]`` of linear heads for distinct rows ``hidden`` ``[K, r, W]``.

    Args:
        inverse: the row of each observation, ``[T, b]``.
        weight: ``[K, H, out, W]``, one head a task or one for all.
    """
    members, tasks, batch, size = out.shape
    heads = weight.shape[1]
    of_row = np.empty((hidden.shape[1], size), np.float32)
    # Every member and task has a number of its own, so ``seen_in`` is never cleared.
    seen_in = np.full(hidden.shape[1], -1)
    found = np.empty(batch, np.int64)
    for member in range(members):
        for task in range(tasks):
            own = weight[member, task * heads // tasks]
            shift = bias[member, task * heads // tasks]
            number = member * tasks + task
            count = list_distinct(inverse[task], seen_in, number, found)
            for at in range(count):
                row = hidden[member, found[at]]
                for j in range(size):
                    factors = own[j]
                    total = np.float32(0)
                    for k in range(len(row)):
                        total += row[k] * factors[k]
                    of_row[found[at], j] = total + shift[j]
            for i in range(batch):
                for j in range(size):
                    out[member, task, i, j] = of_row[inverse[task, i], j]


@kernel
def heads_backward(
    hidden: Any,
    inverse: Any,
    weight: Any,
    grad: Any,
    to: Any,
) -> None:
    """Add the gradients of ``apply_heads``, given ``grad`` ``[K, T, b, out]``, to those of rows, weight and bias."""
    to_hidden, to_weight, to_bias = to
    members, tasks, batch, size = grad.shape
    heads = weight.shape[1]
    of_row = np.zeros((hidden.shape[1], size), np.float32)
    seen_in = np.full(hidden.shape[1], -1)
    found = np.empty(batch, np.int64)
    for member in range(members):
        for task in range(tasks):
            head = task * heads // tasks
            for i in range(batch):
                for j in range(size):
                    of_row[inverse[task, i], j] += grad[member, task, i, j]
                    to_bias[member, head, j] += grad[member, task, i, j]
            number = member * tasks + task
            count = list_distinct(inverse[task], seen_in, number, found)
            for at in range(count):
                row = hidden[member, found[at]]
                to_row = to_hidden[member, found[at]]
                for j in range(size):
                    slope = of_row[found[at], j]
                    # Clean for the next task, which may use other rows.
                    of_row[found[at], j] = 0
                    factors = weight[member, head, j]
                    to_factors = to_weight[member, head, j]
                    for k in range(len(row)):
                        to_row[k] += slope * factors[k]
                        to_factors[k] += slope * row[k]
