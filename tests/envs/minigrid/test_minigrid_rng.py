import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtrl.envs.minigrid.rng import (
    RNG_WORDS,
    TRAINING_SEEDS,
    level_seed,
    next64,
    rand_int,
    seed_rng,
    shuffle,
)

SEEDS = st.integers(0, 2**32 - 1)


def _both(seed):
    ours = np.zeros(RNG_WORDS, np.uint64)
    seed_rng(ours, seed)
    return ours, np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))


@settings(deadline=None)
@given(
    SEEDS,
    st.lists(st.tuples(st.integers(-100, 100), st.integers(1, 2**31)), min_size=1, max_size=60),
)
def test_integers_follow_numpys_stream(seed, intervals):
    ours, theirs = _both(seed)
    for low, size in intervals:
        assert rand_int(ours, low, low + size) == theirs.integers(low, low + size)


@settings(deadline=None)
@given(SEEDS, st.integers(1, 40), st.integers(0, 3))
def test_shuffles_and_long_draws_follow_numpys_stream(seed, length, offset):
    ours, theirs = _both(seed)
    for _ in range(offset):
        # An odd number of short draws leaves half a word, which long draws must not use up.
        assert rand_int(ours, 0, 7) == theirs.integers(0, 7)
    order, expected = np.arange(length), list(range(length))
    shuffle(ours, order, length)
    theirs.shuffle(expected)
    assert order.tolist() == expected
    assert (int(next64(ours)) >> 11) * 2.0**-53 == theirs.uniform(0, 1)
    assert rand_int(ours, 0, 1000) == theirs.integers(0, 1000)


@pytest.mark.parametrize("first", [0, TRAINING_SEEDS])
def test_level_seeds_stay_in_their_half_and_do_not_repeat(first):
    seeds = np.array([level_seed(np.uint64(7), index, first) for index in range(20_000)])
    assert first <= seeds.min() and seeds.max() < first + TRAINING_SEEDS
    # 20,000 draws from 2**30 share about 0.2 values.
    assert len(np.unique(seeds)) > 19_990
    assert abs((seeds - first).mean() / TRAINING_SEEDS - 0.5) < 0.01
