"""Compiled products of bfloat16 task gradients on a CPU: each value is read once and multiplied as float32.

A library would have to convert all gradients to float32 first, in memory, and is slow at products of few rows with many
columns. Rows come as the uint16 that hold their bits, contiguous, ``[S, twins, groups, n]``. NaN and infinity pass
through as they do in any product.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from mtrl.envs.compiled import kernel

COLUMNS = 256  # as many of all rows as the nearest caches hold
ROWS, OTHERS = 2, 5  # their products are summed in registers
# Sums may be taken in any order, which is what lets the compiler use vectors; NaN and infinity keep their meaning.
compiled = partial(kernel, fastmath={"reassoc", "contract", "nsz"})


@compiled
def widen(bits: Any, out: Any) -> None:
    """The float32 of bfloat16 bits ``[k]``, as bits, into the start of ``out`` uint32."""
    for k in range(len(bits)):
        out[k] = np.uint32(bits[k]) << np.uint32(16)


@compiled
def add_block(
    left: Any,
    right: Any,
    tasks: int,
    columns: int,
    symmetric: bool,
    out: Any,
) -> None:
    """Add ``left rightᵀ`` of the first tasks and columns to ``out`` float64; if symmetric, not all below its diagonal.

    Arrays have rows of zeros to spare, so that tasks need not be a multiple of the size of a block.
    """
    for i in range(0, tasks, ROWS):
        a0 = left[i]
        a1 = left[i + 1]
        for j in range(0, tasks, OTHERS):
            if symmetric and j + OTHERS <= i:
                continue
            b0 = right[j]
            b1 = right[j + 1]
            b2 = right[j + 2]
            b3 = right[j + 3]
            b4 = right[j + 4]
            s00 = s01 = s02 = s03 = s04 = s10 = s11 = s12 = s13 = s14 = np.float32(0)
            for k in range(columns):
                x = a0[k]
                y = a1[k]
                s00 += x * b0[k]
                s01 += x * b1[k]
                s02 += x * b2[k]
                s03 += x * b3[k]
                s04 += x * b4[k]
                s10 += y * b0[k]
                s11 += y * b1[k]
                s12 += y * b2[k]
                s13 += y * b3[k]
                s14 += y * b4[k]
            for row, sums in (
                (i, (s00, s01, s02, s03, s04)),
                (i + 1, (s10, s11, s12, s13, s14)),
            ):
                for step in range(OTHERS):
                    out[row, j + step] += sums[step]


@compiled
def add_products(rows: Any, halves: bool, out: Any) -> None:
    """Add ``J Jᵀ`` of each seed, summed over twins, to ``out`` ``[S, m, m]`` float64.

    Args:
        rows: ``[S, twins, m, n]``; with ``halves`` ``[S, twins, 2 m, n]``, where the rows of the two Jacobians in
            ``J₁ J₂ᵀ`` alternate.
    """
    tasks = out.shape[1]
    size = -(-tasks // (ROWS * OTHERS)) * ROWS * OTHERS
    left = np.zeros((size, COLUMNS), np.float32)
    right = np.zeros((size, COLUMNS), np.float32)
    left_bits = left.view(np.uint32)
    right_bits = right.view(np.uint32)
    for seed in range(len(rows)):
        sums = np.zeros((size, size))
        for twin in range(rows.shape[1]):
            for start in range(0, rows.shape[3], COLUMNS):
                stop = min(start + COLUMNS, rows.shape[3])
                # Rows are widened once a block of columns, and then multiplied with all others.
                for task in range(tasks):
                    if halves:
                        widen(rows[seed, twin, 2 * task, start:stop], left_bits[task])
                        widen(rows[seed, twin, 2 * task + 1, start:stop], right_bits[task])
                    else:
                        widen(rows[seed, twin, task, start:stop], left_bits[task])
                add_block(
                    left,
                    right if halves else left,
                    tasks,
                    stop - start,
                    not halves,
                    sums,
                )
        # Of a symmetric product only the blocks on and above the diagonal were added.
        for i in range(tasks):
            for j in range(tasks):
                out[seed, i, j] += sums[i, j] if halves or j >= i else sums[j, i]


@compiled
def weigh_rows(rows: Any, weights: Any, out: Any) -> None:
    """``Jᵀ w``: rows ``[S, twins, groups, n]``, weights ``[S, groups]``, out ``[S, twins, n]``."""
    groups = rows.shape[2]
    size = -(-groups // OTHERS) * OTHERS
    wide = np.zeros((size, COLUMNS), np.float32)
    factors = np.zeros(size, np.float32)
    bits = wide.view(np.uint32)
    for seed in range(len(rows)):
        factors[:groups] = weights[seed]
        for twin in range(rows.shape[1]):
            for start in range(0, rows.shape[3], COLUMNS):
                stop = min(start + COLUMNS, rows.shape[3])
                for group in range(groups):
                    widen(rows[seed, twin, group, start:stop], bits[group])
                part = out[seed, twin, start:stop]
                part[:] = 0
                for i in range(0, size, OTHERS):
                    r0 = wide[i]
                    r1 = wide[i + 1]
                    r2 = wide[i + 2]
                    r3 = wide[i + 3]
                    r4 = wide[i + 4]
                    w0 = factors[i]
                    w1 = factors[i + 1]
                    w2 = factors[i + 2]
                    w3 = factors[i + 3]
                    w4 = factors[i + 4]
                    for k in range(len(part)):
                        part[k] += (
                            w0 * r0[k] + w1 * r1[k] + w2 * r2[k] + w3 * r3[k] + w4 * r4[k]
                        )
