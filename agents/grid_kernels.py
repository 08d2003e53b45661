"""Compiled loops of the MiniGrid encoder on a CPU: features straight from bytes, their gradients, repeated rows.

All arrays are contiguous. Tables are float32 ``[..., positions * codes, channels]``: what a position of a patch (or of
a window of words) adds to the features when it holds a code. Seeds, tasks and members are loops in here, so that a
caller pays for one call whatever it stacks. No kernel here calls one of another file, so numba, which looks at the date
of a kernel's own file, never takes stale machine code from its cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.minigrid.jit import kernel

SIDE, KERNEL, STRIDE, WINDOW = 7, 3, 2, 3
OUT = (SIDE - KERNEL) // STRIDE + 1
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@kernel
def odd_numbers(count: int) -> Any:
    """Factors of a hash that is a sum of products, which the compiler takes many at once."""
    numbers = np.empty(count, np.uint64)
    mixed = np.uint64(1)
    for k in range(count):
        mixed = mixed * MULTIPLIER + np.uint64(1)
        numbers[k] = mixed | np.uint64(1)
    return numbers


@kernel
def read_cells(row: Any, sizes: Any, cells: Any) -> bool:
    """Number of the code in each of the 49 cells of an observation; whether all its bytes are below their sizes."""
    fine = row[SIDE * SIDE * 3] < sizes[3]
    for cell in range(SIDE * SIDE):
        kind, color, state = row[3 * cell], row[3 * cell + 1], row[3 * cell + 2]
        fine &= kind < sizes[0] and color < sizes[1] and state < sizes[2]
        cells[cell] = (kind * sizes[1] + color) * sizes[2] + state
    for word in range(sizes[4]):
        fine &= row[SIDE * SIDE * 3 + 1 + word] < sizes[5]
    return fine


@kernel
def find_patches(x: Any, sizes: Any, ids: Any, patches: Any) -> int:
    """Number of distinct patches in rows ``[n, D]`` uint8, or -1 if a byte is not below its size.

    ``ids`` ``[n, 9]`` receives which patch is where, ``patches`` ``[9 n, 9]`` the rows of the view's table that each
    patch adds up. Patches are found by a table with open addresses, and compared in full.
    """
    codes = sizes[0] * sizes[1] * sizes[2]
    size = 64
    while size < 2 * len(patches):
        size *= 2
    slots = np.full(size, -1, np.int32)
    cells = np.zeros(SIDE * SIDE, np.int64)
    patch = np.zeros(KERNEL * KERNEL, np.int32)
    factors = odd_numbers(KERNEL * KERNEL)
    found = 0
    for i in range(len(x)):
        if not read_cells(x[i], sizes, cells):
            return -1
        for place in range(OUT * OUT):
            first = STRIDE * (place // OUT * SIDE + place % OUT)
            mixed = np.uint64(0)
            for position in range(KERNEL * KERNEL):
                entry = position * codes + cells[first + position // KERNEL * SIDE + position % KERNEL]
                patch[position] = entry
                mixed += np.uint64(entry) * factors[position]
            slot = np.int64((mixed >> np.uint64(32)) & np.uint64(size - 1))
            while True:
                known = slots[slot]
                if known < 0:
                    patches[found] = patch
                    slots[slot], known = found, found
                    found += 1
                    break
                different = np.int32(0)
                for position in range(KERNEL * KERNEL):
                    different |= patches[known, position] ^ patch[position]
                if different == 0:
                    break
                slot = (slot + 1) & (size - 1)
            ids[i, place] = known
    return found


@kernel
def add_patches(patches: Any, view: Any, bias: Any, out: Any) -> None:
    """ReLU of the sum of table rows that each patch ``[P, 9]`` adds up, ``[K, P, channels]``."""
    members, channels = bias.shape
    for member in range(members):
        table = view[member]
        for i in range(len(patches)):
            a, b, c, d, e, f, g, h, j = patches[i]
            ra, rb, rc, rd, re = table[a], table[b], table[c], table[d], table[e]
            rf, rg, rh, rj, shift, to = table[f], table[g], table[h], table[j], bias[member], out[member, i]
            for k in range(channels):
                total = shift[k] + ra[k] + rb[k] + rc[k] + rd[k] + re[k] + rf[k] + rg[k] + rh[k] + rj[k]
                to[k] = max(total, np.float32(0))


@kernel
def read_words(row: Any, sizes: Any, words: Any) -> int:
    """Put the tokens of the mission between two of padding; how many are none."""
    said = 0
    for word in range(sizes[4]):
        words[1 + word] = row[SIDE * SIDE * 3 + 1 + word]
        said += words[1 + word] > 0
    return said


@kernel
def write_features(x: Any, ids: Any, sizes: Any, seen: Any, mission: Any, mission_bias: Any, out: Any) -> None:
    """Write the features ``[K, n, F]`` of rows ``[S, n, D]`` uint8.

    Args:
        ids: patches of each row ``[S, n, 9]``, with features ``seen`` ``[K, P, channels]``.
        sizes: int64: objects, colors, states, directions, words, vocabulary.
        mission: table ``[K, ., channels]``, with biases ``[K, channels]``.
    """
    seeds, rows, width = x.shape
    members, _, channels = seen.shape
    head, directions, num_words, vocabulary = SIDE * SIDE * 3, sizes[3], sizes[4], sizes[5]
    words = np.zeros(num_words + 2, np.int64)
    for member in range(members):
        table, bias, seed = mission[member], mission_bias[member], member * seeds // members
        for i in range(rows):
            row, to = x[seed, i], out[member, i]
            at = 0
            for place in range(OUT * OUT):
                of = seen[member, ids[seed, i, place]]
                for k in range(channels):
                    to[at + k] = of[k]
                at += channels
            if num_words > 0:
                to[at : at + channels] = 0
                said = read_words(row, sizes, words)
                share = np.float32(1) / np.float32(max(said, 1))
                for word in range(num_words):
                    if words[word + 1] > 0:
                        ra, rb = table[words[word]], table[vocabulary + words[word + 1]]
                        rc = table[2 * vocabulary + words[word + 2]]
                        for k in range(channels):
                            to[at + k] += max(bias[k] + ra[k] + rb[k] + rc[k], np.float32(0)) * share
                at += channels
            to[at : at + directions] = 0
            to[at + row[head]] = 1
            at += directions
            for k in range(head + 1 + num_words, width):
                to[at] = row[k]
                at += 1


@kernel
def add_to(total: Any, part: Any) -> None:
    for k in range(len(part)):
        total[k] += part[k]


@kernel
def view_backward(ids: Any, patches: Any, seen: Any, grad: Any, to_table: Any, to_bias: Any) -> None:
    """Add the gradients of the view's table ``[K, G, ., channels]`` and bias for each of ``G`` groups of rows.

    A patch adds up what all its places receive before it passes that on: ``ids`` ``[S, G, n, 9]``, ``patches``
    ``[P, 9]``, ``seen`` ``[K, P, channels]``, ``grad`` ``[K, G, n, F]``.
    """
    seeds, groups, rows, _ = ids.shape
    members, count, channels = seen.shape
    for member in range(members):
        for group in range(groups):
            total = np.zeros((count, channels), np.float32)
            touched = np.zeros(count, np.bool_)
            own = ids[member * seeds // members, group]
            for i in range(rows):
                slope = grad[member, group, i]
                for place in range(OUT * OUT):
                    patch = own[i, place]
                    touched[patch] = True
                    add_to(total[patch], slope[place * channels : (place + 1) * channels])
            table, bias = to_table[member, group], to_bias[member, group]
            for patch in range(count):
                if touched[patch]:
                    delta, of = total[patch], seen[member, patch]
                    for k in range(channels):
                        delta[k] = delta[k] if of[k] > 0 else np.float32(0)
                    add_to(bias, delta)
                    for position in range(KERNEL * KERNEL):
                        add_to(table[patches[patch, position]], delta)


@kernel
def mission_backward(x: Any, sizes: Any, table: Any, bias: Any, grad: Any, to_table: Any, to_bias: Any) -> None:
    """``view_backward`` for the mission: ``x`` ``[S, G, n, D]``, ``table`` ``[K, ., channels]``."""
    seeds, groups, rows, _ = x.shape
    members, channels = bias.shape
    vocabulary, at = sizes[5], OUT * OUT * channels
    words = np.zeros(sizes[4] + 2, np.int64)
    delta = np.zeros(channels, np.float32)
    for member in range(members):
        spoken, shift = table[member], bias[member]
        for group in range(groups):
            to, to_shift = to_table[member, group], to_bias[member, group]
            for i in range(rows):
                slope = grad[member, group, i]
                said = read_words(x[member * seeds // members, group, i], sizes, words)
                share = np.float32(1) / np.float32(max(said, 1))
                for word in range(sizes[4]):
                    if words[word + 1] > 0:
                        a, b, c = words[word], vocabulary + words[word + 1], 2 * vocabulary + words[word + 2]
                        for k in range(channels):
                            total = shift[k] + spoken[a, k] + spoken[b, k] + spoken[c, k]
                            delta[k] = slope[at + k] * share if total > 0 else np.float32(0)
                        add_to(to_shift, delta)
                        add_to(to[a], delta)
                        add_to(to[b], delta)
                        add_to(to[c], delta)


@kernel
def find_distinct(rows: Any, first: Any, inverse: Any) -> int:
    """The number ``r`` of distinct rows ``[n, D]``; ``first[:r]`` says where each comes first, in order of appearance,
    and ``inverse`` ``[n]`` which of them every row is. A table with open addresses, and rows compared in full."""
    count, width = rows.shape
    size = 16
    while size < 2 * count:
        size *= 2
    slots = np.full(size, -1, np.int64)
    factors = odd_numbers(width)
    found = 0
    for i in range(count):
        row = rows[i]
        mixed = np.uint64(0)
        for k in range(width):
            mixed += np.uint64(row[k]) * factors[k]
        slot = np.int64((mixed >> np.uint64(32)) & np.uint64(size - 1))
        while True:
            known = slots[slot]
            if known < 0:
                slots[slot], first[found], inverse[i] = found, i, found
                found += 1
                break
            different = np.uint8(0)
            other = rows[first[known]]
            for k in range(width):
                different |= row[k] ^ other[k]
            if different == 0:
                inverse[i] = known
                break
            slot = (slot + 1) & (size - 1)
    return found


@kernel
def sum_rows(grad: Any, inverse: Any, out: Any) -> None:
    """Add each row of ``grad`` ``[K, n, W]`` to row ``inverse`` of ``out`` ``[K, r, W]``."""
    for member in range(grad.shape[0]):
        for i in range(grad.shape[1]):
            add_to(out[member, inverse[i]], grad[member, i])
