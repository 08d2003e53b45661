"""Compiled loops of the MiniGrid encoder on a CPU: features from bytes, their gradients, and distinct rows.

All arrays are contiguous. Tables are float32 ``[..., positions * codes, channels]``: the contribution of a code at a
position of a patch (or of a window of words) to the features. Features and their gradients are float32, or bfloat16
as the uint16 that hold its bits; all sums are float32. Seeds, tasks and members are loops in here, so a caller pays
for one call whatever it stacks. No kernel here calls one of another file, so numba, which compares the date of a
kernel's own file, never takes stale machine code from its cache.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from mtrl.envs.compiled import kernel

SIDE, KERNEL, STRIDE, WINDOW = 7, 3, 2, 3
OUT = (SIDE - KERNEL) // STRIDE + 1
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
# Where the compiler must see that arrays do not overlap.
inlined = partial(kernel, inline="always")


@kernel
def odd_numbers(count: int) -> Any:
    """Factors of a hash that is a sum of products, a form that the compiler can vectorize."""
    numbers = np.empty(count, np.uint64)
    mixed = np.uint64(1)
    for k in range(count):
        mixed = mixed * MULTIPLIER + np.uint64(1)
        numbers[k] = mixed | np.uint64(1)
    return numbers


@kernel
def read_cells(row: Any, sizes: Any, cells: Any) -> bool:
    """Write the number of the code in each of the 49 cells; returns whether all bytes are below their sizes."""
    fine = row[SIDE * SIDE * 3] < sizes[3]
    for cell in range(SIDE * SIDE):
        kind, color, state = row[3 * cell], row[3 * cell + 1], row[3 * cell + 2]
        fine &= kind < sizes[0] and color < sizes[1] and state < sizes[2]
        cells[cell] = (kind * sizes[1] + color) * sizes[2] + state
    for word in range(sizes[4]):
        fine &= row[SIDE * SIDE * 3 + 1 + word] < sizes[5]
    return fine


@inlined
def read_patch(
    cells: Any,
    place: int,
    codes: int,
    patch: Any,
) -> None:
    """Write the rows of the view's table whose sum is one of the nine patches of a view."""
    first = STRIDE * (place // OUT * SIDE + place % OUT)
    for position in range(KERNEL * KERNEL):
        patch[position] = (
            position * codes + cells[first + position // KERNEL * SIDE + position % KERNEL]
        )


@kernel
def find_patches(
    x: Any,
    sizes: Any,
    ids: Any,
    patches: Any,
) -> int:
    """Number of distinct patches in rows ``[n, D]`` uint8, or -1 if a byte is not below its size.

    ``ids`` ``[n, 9]`` receives which patch is where, ``patches`` ``[9 n, 9]`` the rows of the view's table that each
    patch adds up. Patches are found by a table with open addresses, and compared in full.
    """
    codes = sizes[0] * sizes[1] * sizes[2]
    size = 64
    # At most half full, so that a search soon meets an empty slot.
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
            read_patch(cells, place, codes, patch)
            mixed = np.uint64(0)
            for position in range(KERNEL * KERNEL):
                mixed += np.uint64(patch[position]) * factors[position]
            # The upper half: low bits of a sum of products depend on the low bits of its factors alone.
            slot = np.int64((mixed >> np.uint64(32)) & np.uint64(size - 1))
            while True:
                known = slots[slot]
                if known < 0:
                    patches[found] = patch
                    slots[slot], known = found, found
                    found += 1
                    break
                # Different patches can share a hash, so they are compared in full.
                different = np.int32(0)
                for position in range(KERNEL * KERNEL):
                    different |= patches[known, position] ^ patch[position]
                if different == 0:
                    break
                slot = (slot + 1) & (size - 1)
            ids[i, place] = known
    return found


@inlined
def narrow(row: Any, out: Any) -> None:
    """Write float32 ``[k]`` as it is, or as bits of bfloat16, rounded to nearest even, where ``out`` is uint16."""
    if out.itemsize == 2:
        bits = row.view(np.uint32)
        for k in range(len(row)):
            # Half a unit of the kept bits, less one where the last of them is even: ties go to even.
            odd = (bits[k] >> np.uint32(16)) & np.uint32(1)
            out[k] = np.uint32(bits[k] + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    else:
        for k in range(len(row)):
            out[k] = row[k]


@inlined
def widen(row: Any, out: Any) -> None:
    """The inverse of ``narrow``: write a row as float32."""
    if row.itemsize == 2:
        bits = out.view(np.uint32)
        for k in range(len(row)):
            bits[k] = np.uint32(row[k]) << np.uint32(16)
    else:
        for k in range(len(row)):
            out[k] = row[k]


@kernel
def fill_table(weight: Any, sizes: Any, table: Any) -> None:
    """The view's table ``[K, 9 * codes, channels]`` of its weight ``[K, 9 * cell, channels]``: a code is an object, a
    color and a state."""
    objects, colors, states = sizes[0], sizes[1], sizes[2]
    members, _, channels = weight.shape
    for member in range(members):
        at = 0
        for position in range(KERNEL * KERNEL):
            first = position * (objects + colors + states)
            for kind in range(objects):
                for color in range(colors):
                    for state in range(states):
                        of_kind, of_color = (
                            weight[member, first + kind],
                            weight[member, first + objects + color],
                        )
                        of_state, to = (
                            weight[member, first + objects + colors + state],
                            table[member, at],
                        )
                        for k in range(channels):
                            to[k] = of_kind[k] + of_color[k] + of_state[k]
                        at += 1


@inlined
def add_to(total: Any, part: Any) -> None:
    for k in range(len(part)):
        total[k] += part[k]


@kernel
def fold_table(
    table: Any,
    touched: Any,
    sizes: Any,
    weight: Any,
) -> None:
    """Add the gradients of the touched rows of the view's table ``[9 * codes, channels]`` to those of its weight."""
    objects, colors, states = sizes[0], sizes[1], sizes[2]
    for at in range(len(table)):
        if touched[at]:
            code, state = at // states, at % states
            kind, color = code // colors, code % colors
            first = kind // objects * (objects + colors + states)
            add_to(weight[first + kind % objects], table[at])
            add_to(weight[first + objects + color], table[at])
            add_to(weight[first + objects + colors + state], table[at])


@inlined
def add_patch(
    patch: Any,
    table: Any,
    shift: Any,
    total: Any,
) -> None:
    """ReLU of the sum of table rows that a patch ``[9]`` adds up."""
    a, b, c, d, e, f, g, h, j = patch
    ra, rb, rc, rd, re = table[a], table[b], table[c], table[d], table[e]
    rf, rg, rh, rj = table[f], table[g], table[h], table[j]
    for k in range(len(total)):
        value = shift[k] + ra[k] + rb[k] + rc[k] + rd[k] + re[k] + rf[k] + rg[k] + rh[k] + rj[k]
        total[k] = max(value, np.float32(0))


@kernel
def add_patches(
    patches: Any,
    view: Any,
    bias: Any,
    out: Any,
) -> None:
    """Features ``[K, P, channels]`` of patches ``[P, 9]``."""
    members, channels = bias.shape
    total = np.zeros(channels, np.float32)
    for member in range(members):
        for i in range(len(patches)):
            add_patch(patches[i], view[member], bias[member], total)
            narrow(total, out[member, i])


@kernel
def read_words(mission: Any, words: Any) -> int:
    """Put the tokens of a mission between two of padding; returns how many are no padding."""
    said = 0
    for word in range(len(mission)):
        words[1 + word] = mission[word]
        said += mission[word] > 0
    return said


@kernel
def add_mission(
    mission: Any, table: Any, shift: Any, vocabulary: int, words: Any, total: Any
) -> None:
    """Mean over the words of a mission ``[W]`` uint8; 0 where there are none. ``words`` ``[W + 2]`` is for use here."""
    said = read_words(mission, words)
    # Token 0 is padding and has no part in the mean.
    share = np.float32(1) / np.float32(max(said, 1))
    total[:] = 0
    for word in range(len(mission)):
        if words[word + 1] > 0:
            ra, rb = table[words[word]], table[vocabulary + words[word + 1]]
            rc = table[2 * vocabulary + words[word + 2]]
            for k in range(len(total)):
                total[k] += max(shift[k] + ra[k] + rb[k] + rc[k], np.float32(0)) * share


@kernel
def add_missions(
    missions: Any,
    table: Any,
    bias: Any,
    vocabulary: int,
    out: Any,
) -> None:
    """Features ``[K, M, channels]`` of missions ``[M, W]`` uint8."""
    members, channels = bias.shape
    words = np.zeros(missions.shape[1] + 2, np.int64)
    total = np.zeros(channels, np.float32)
    for member in range(members):
        for i in range(len(missions)):
            add_mission(
                missions[i],
                table[member],
                bias[member],
                vocabulary,
                words,
                total,
            )
            narrow(total, out[member, i])


@inlined
def write_rest(
    row: Any,
    sizes: Any,
    numbers: Any,
    out: Any,
) -> None:
    """Write the direction's one-hot code and the further columns, which follow the features of view and mission."""
    first, directions = SIDE * SIDE * 3, sizes[3]
    for k in range(directions):
        out[k] = numbers[0]
    out[row[first]] = numbers[1]
    at = directions
    for k in range(first + 1 + sizes[4], len(row)):
        out[at] = numbers[row[k]]
        at += 1


@kernel
def encode_few(
    x: Any,
    sizes: Any,
    tables: Any,
    numbers: Any,
    out: Any,
) -> bool:
    """Write the features ``[K, n, F]`` of rows ``[S, n, D]`` uint8, each on its own; whether all bytes are below their
    sizes. ``tables`` are the view's, its bias, the mission's and its bias."""
    view, view_bias, mission, mission_bias = tables
    members, channels = view_bias.shape
    codes, words = sizes[0] * sizes[1] * sizes[2], sizes[4]
    first_word = SIDE * SIDE * 3 + 1
    cells, patch = np.zeros(SIDE * SIDE, np.int64), np.zeros(KERNEL * KERNEL, np.int32)
    padded, total = np.zeros(words + 2, np.int64), np.zeros(channels, np.float32)
    for member in range(members):
        for i in range(x.shape[1]):
            # Consecutive members share the rows of a seed.
            row, to = x[member * len(x) // members, i], out[member, i]
            if not read_cells(row, sizes, cells):
                return False
            at = 0
            for place in range(OUT * OUT):
                read_patch(cells, place, codes, patch)
                add_patch(patch, view[member], view_bias[member], total)
                narrow(total, to[at : at + channels])
                at += channels
            if words > 0:
                said = row[first_word : first_word + words]
                add_mission(
                    said,
                    mission[member],
                    mission_bias[member],
                    sizes[5],
                    padded,
                    total,
                )
                narrow(total, to[at : at + channels])
                at += channels
            write_rest(row, sizes, numbers, to[at:])
    return True


@kernel
def write_features(
    x: Any, ids: Any, spoken: Any, sizes: Any, seen: Any, said: Any, numbers: Any, out: Any
) -> None:
    """Write the features ``[K, n, F]`` of rows ``[S, n, D]`` uint8.

    Args:
        ids: patches of each row ``[S, n, 9]``, with features ``seen`` ``[K, P, channels]``.
        spoken: mission of each row ``[S, n]``, with features ``said`` ``[K, M, channels]``.
        sizes: int64: objects, colors, states, directions, words, vocabulary.
        numbers: 0 to 255 as features are written.
    """
    seeds, rows, _ = x.shape
    members, _, channels = seen.shape
    for member in range(members):
        seed = member * seeds // members
        for i in range(rows):
            to = out[member, i]
            at = 0
            for place in range(OUT * OUT):
                of = seen[member, ids[seed, i, place]]
                for k in range(channels):
                    to[at + k] = of[k]
                at += channels
            if sizes[4] > 0:
                of = said[member, spoken[seed, i]]
                for k in range(channels):
                    to[at + k] = of[k]
                at += channels
            write_rest(x[seed, i], sizes, numbers, to[at:])


@kernel
def collect(
    ids: Any,
    spoken: Any,
    grad: Any,
    by_patch: Any,
    by_mission: Any,
    patch_is: Any,
    mission_is: Any,
) -> None:
    """Sum the gradients of each distinct patch and mission over the rows, and mark those that receive any.

    Args:
        ids: patches of the rows ``[n, 9]``; ``spoken``: their missions ``[n]``.
        grad: ``[n, F]``.
        by_patch: ``[P, channels]`` float32; ``by_mission``: ``[M, channels]``, empty without missions.
        patch_is: bool ``[P]``; ``mission_is``: bool ``[M]``.
    """
    channels = by_patch.shape[1]
    at = OUT * OUT * channels
    slope = np.zeros(at + by_mission.shape[1], np.float32)
    for i in range(len(ids)):
        widen(grad[i, : len(slope)], slope)
        for place in range(OUT * OUT):
            patch_is[ids[i, place]] = True
            add_to(by_patch[ids[i, place]], slope[place * channels : (place + 1) * channels])
        if len(slope) > at:
            mission_is[spoken[i]] = True
            add_to(by_mission[spoken[i]], slope[at:])


@kernel
def view_backward(
    patches: Any, seen: Any, slope: Any, patch_is: Any, to_table: Any, row_is: Any, to_bias: Any
) -> None:
    """Add the gradients of the view's table ``[., channels]`` and bias, given those of patches ``[P, channels]``, and
    mark the rows of the table that receive any."""
    for patch in range(len(patches)):
        if patch_is[patch]:
            delta, of = slope[patch], seen[patch]
            for k in range(len(delta)):
                delta[k] = delta[k] if of[k] > 0 else np.float32(0)
            add_to(to_bias, delta)
            for position in range(KERNEL * KERNEL):
                row_is[patches[patch, position]] = True
                add_to(to_table[patches[patch, position]], delta)


@kernel
def mission_backward(
    missions: Any,
    known: Any,
    slope: Any,
    touched: Any,
    to: Any,
) -> None:
    """Add the gradients of the missions' table and bias, given those of missions ``[M, channels]``."""
    table, bias, vocabulary = known
    to_table, to_bias = to
    words = np.zeros(missions.shape[1] + 2, np.int64)
    delta = np.zeros(len(bias), np.float32)
    for mission in range(len(missions)):
        if not touched[mission]:
            continue
        said = read_words(missions[mission], words)
        share = np.float32(1) / np.float32(max(said, 1))
        for word in range(missions.shape[1]):
            if words[word + 1] > 0:
                a, b, c = (
                    words[word],
                    vocabulary + words[word + 1],
                    2 * vocabulary + words[word + 2],
                )
                for k in range(len(delta)):
                    total = bias[k] + table[a, k] + table[b, k] + table[c, k]
                    delta[k] = slope[mission, k] * share if total > 0 else np.float32(0)
                add_to(to_bias, delta)
                add_to(to_table[a], delta)
                add_to(to_table[b], delta)
                add_to(to_table[c], delta)


@kernel
def encode_backward(
    looked: Any,
    known: Any,
    sizes: Any,
    grad: Any,
    to: Any,
) -> None:
    """Add the gradients of the parameters for each of ``G`` groups of rows.

    Args:
        looked: patches of the rows ``[S, G, n, 9]``, missions of the rows ``[S, G, n]``, rows of the view's table that
            patches add up ``[P, 9]``, missions ``[M, W]`` uint8.
        known: features of the patches ``[K, P, channels]``, table of the missions ``[K, ., channels]`` and biases.
        grad: ``[K, G, n, F]``.
        to: of the view's weight ``[K, G, 9 * cell, channels]`` and bias, then of the mission's.
    """
    ids, spoken, patches, missions = looked
    seen, mission, mission_bias = known
    to_view, to_view_bias, to_mission, to_mission_bias = to
    members, groups, _, channels = to_view.shape
    for member in range(members):
        seed = member * len(ids) // members
        for group in range(groups):
            # Gradients are summed by patch first: a distinct patch then adds to the table only once.
            by_patch = np.zeros((len(patches), channels), np.float32)
            by_mission = np.zeros((len(missions), channels if sizes[4] > 0 else 0), np.float32)
            patch_is, mission_is = (
                np.zeros(len(patches), np.bool_),
                np.zeros(len(missions), np.bool_),
            )
            own, said = ids[seed, group], spoken[seed, group]
            collect(
                own,
                said,
                grad[member, group],
                by_patch,
                by_mission,
                patch_is,
                mission_is,
            )
            size = KERNEL * KERNEL * sizes[0] * sizes[1] * sizes[2]
            table, row_is = np.zeros((size, channels), np.float32), np.zeros(size, np.bool_)
            view_backward(
                patches,
                seen[member],
                by_patch,
                patch_is,
                table,
                row_is,
                to_view_bias[member, group],
            )
            fold_table(table, row_is, sizes, to_view[member, group])
            if sizes[4] > 0:
                known_here = mission[member], mission_bias[member], sizes[5]
                to_here = to_mission[member, group], to_mission_bias[member, group]
                mission_backward(
                    missions,
                    known_here,
                    by_mission,
                    mission_is,
                    to_here,
                )


@kernel
def find_distinct(rows: Any, first: Any, inverse: Any) -> int:
    """Find the distinct rows of ``[n, D]`` by a table with open addresses; returns their number ``r``.

    ``first[:r]`` receives the index at which each comes first, in order of appearance, and ``inverse`` ``[n]`` the
    number of each row's distinct row. Rows are compared in full.
    """
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
