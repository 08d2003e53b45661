"""numpy's generator, stream for stream, for compiled code, and the streams of level seeds.

``numpy.random.Generator(PCG64(SeedSequence(seed)))`` is what minigrid draws its levels from. The state here is six
uint64: the 128-bit state (high, low), the 128-bit increment (high, low), whether half a word is kept, and that half.

Sources: O'Neill, "PCG", HMC-CS-2014-0905 (XSL-RR output); Lemire, "Fast random integer generation in an interval",
2019; numpy's documented ``SeedSequence`` hash. Agreement with numpy is a test.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mtrl.envs.compiled import kernel

RNG_WORDS = 6
TRAINING_SEEDS = 1 << 30
"""Training levels have seeds in [0, 2**30), evaluation levels in [2**30, 2**31)."""

_U = np.uint64
_MASK32 = _U(0xFFFFFFFF)
_S1, _S16, _S32, _S58, _S63 = _U(1), _U(16), _U(32), _U(58), _U(63)
_ZERO, _ONE, _SIXTY_THREE = _U(0), _U(1), _U(63)
_TWO32 = _U(1 << 32)
_MULTIPLIER_HIGH, _MULTIPLIER_LOW = _U(2549297995355413924), _U(4865540595714422341)
_INIT_A, _MULT_A = _U(0x43B0D7E5), _U(0x931E8875)
_INIT_B, _MULT_B = _U(0x8B51F9DD), _U(0x58F38DED)
_MIX_LEFT, _MIX_RIGHT = _U(0xCA01F9DD), _U(0x4973F715)
_GOLDEN = _U(0x9E3779B97F4A7C15)
_SPLIT_A, _SPLIT_B = _U(0xBF58476D1CE4E5B9), _U(0x94D049BB133111EB)
_S27, _S30, _S31 = _U(27), _U(30), _U(31)
_LEVEL_MASK = _U(TRAINING_SEEDS - 1)


@kernel
def _multiply_high(a: np.uint64, b: np.uint64) -> np.uint64:
    """Upper 64 bits of a 64 x 64 bit product."""
    a_low, a_high, b_low, b_high = a & _MASK32, a >> _S32, b & _MASK32, b >> _S32
    middle = a_high * b_low + ((a_low * b_low) >> _S32)
    other = a_low * b_high + (middle & _MASK32)
    return a_high * b_high + (middle >> _S32) + (other >> _S32)


@kernel
def _advance(rng: NDArray[np.uint64]) -> None:
    """state = state * multiplier + increment, modulo 2**128."""
    high, low = rng[0], rng[1]
    product = low * _MULTIPLIER_LOW
    upper = (
        _multiply_high(low, _MULTIPLIER_LOW) + high * _MULTIPLIER_LOW + low * _MULTIPLIER_HIGH
    )
    total = product + rng[3]
    carry = _ONE if total < product else _ZERO
    rng[0] = upper + rng[2] + carry
    rng[1] = total


@kernel
def next64(rng: NDArray[np.uint64]) -> np.uint64:
    """The next 64 random bits; ``Generator.uniform`` uses one such draw."""
    _advance(rng)
    word, turn = rng[0] ^ rng[1], rng[0] >> _S58
    return (word >> turn) | (word << ((_ZERO - turn) & _SIXTY_THREE))


@kernel
def next32(rng: NDArray[np.uint64]) -> np.uint64:
    """The next 32 random bits: the low half of a 64-bit draw, then its kept high half."""
    if rng[4] != _ZERO:
        rng[4] = _ZERO
        return rng[5]
    word = next64(rng)
    rng[4] = _ONE
    rng[5] = word >> _S32
    return word & _MASK32


@kernel
def rand_int(rng: NDArray[np.uint64], low: int, high: int) -> int:
    """``Generator.integers(low, high)``: Lemire's method on 32 bits; an interval of one value draws nothing."""
    if high - low == 1:
        return low
    size = _U(high - low)
    product = next32(rng) * size
    if (product & _MASK32) < size:
        threshold = (_TWO32 - size) % size
        while (product & _MASK32) < threshold:
            product = next32(rng) * size
    return low + int(product >> _S32)


@kernel
def shuffle(rng: NDArray[np.uint64], values: NDArray[np.int64], count: int) -> None:
    """``Generator.shuffle`` of a list of ``count`` values: masked rejection from the last place down."""
    for i in range(count - 1, 0, -1):
        limit = _U(i)
        mask = limit
        mask |= mask >> _S1
        mask |= mask >> _U(2)
        mask |= mask >> _U(4)
        mask |= mask >> _U(8)
        draw = next32(rng) & mask
        while draw > limit:
            draw = next32(rng) & mask
        j = np.int64(draw)
        values[i], values[j] = values[j], values[i]


@kernel
def _absorb(word: np.uint64, constant: np.uint64) -> tuple[np.uint64, np.uint64]:
    """One step of SeedSequence's entropy hash: the hashed word and the next constant."""
    word ^= constant
    constant = (constant * _MULT_A) & _MASK32
    word = (word * constant) & _MASK32
    return word ^ (word >> _S16), constant


@kernel
def seed_rng(rng: NDArray[np.uint64], seed: int) -> None:
    """Set ``rng`` to ``PCG64(SeedSequence(seed))`` for ``0 <= seed < 2**32``."""
    pool = np.zeros(4, np.uint64)
    constant = _INIT_A
    for i in range(4):
        pool[i], constant = _absorb(_U(seed) if i == 0 else _ZERO, constant)
    for source in range(4):
        for target in range(4):
            if source != target:
                hashed, constant = _absorb(pool[source], constant)
                mixed = (pool[target] * _MIX_LEFT - hashed * _MIX_RIGHT) & _MASK32
                pool[target] = mixed ^ (mixed >> _S16)
    words = np.zeros(8, np.uint64)
    constant = _INIT_B
    for i in range(8):
        word = pool[i % 4] ^ constant
        constant = (constant * _MULT_B) & _MASK32
        word = (word * constant) & _MASK32
        words[i] = word ^ (word >> _S16)
    # Two words make a 64-bit one, low half first: initial state (high, low), then stream (high, low).
    stream_high, stream_low = words[4] | (words[5] << _S32), words[6] | (words[7] << _S32)
    rng[2] = (stream_high << _S1) | (stream_low >> _S63)
    rng[3] = (stream_low << _S1) | _ONE
    # The first advance of a zero state leaves the increment; then the initial state is added and advanced once more.
    low = rng[3] + (words[2] | (words[3] << _S32))
    carry = _ONE if low < rng[3] else _ZERO
    rng[0] = rng[2] + (words[0] | (words[1] << _S32)) + carry
    rng[1] = low
    _advance(rng)
    rng[4] = _ZERO
    rng[5] = _ZERO


@kernel
def level_seed(key: np.uint64, index: int, first: int) -> int:
    """Seed of level ``index`` of the stream ``key``: SplitMix64 of (key, index), in [first, first + 2**30)."""
    word = key + _GOLDEN * _U(index)
    word = (word ^ (word >> _S30)) * _SPLIT_A
    word = (word ^ (word >> _S27)) * _SPLIT_B
    return first + int((word ^ (word >> _S31)) & _LEVEL_MASK)


@kernel
def chosen_level(
    key: np.uint64,
    index: int,
    first: int,
    levels: NDArray[np.int64],
    size: int,
    in_order: bool,
) -> int:
    """Seed of level ``index`` of a stream, chosen from the first ``size`` of ``levels`` unless that is 0."""
    seed = level_seed(key, index, first)
    if size == 0:
        return seed
    return levels[(index if in_order else seed) % size]
