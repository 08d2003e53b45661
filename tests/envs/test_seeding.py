import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtrl.envs import SuiteError
from mtrl.envs.seeding import MAX_SEED, check_seed, episode_seed

small = st.integers(0, 3)


@settings(deadline=None)
@given(
    st.tuples(small, small, small, small, small), st.tuples(small, small, small, small, small)
)
def test_episode_seeds_are_equal_only_where_all_coordinates_are(first, second):
    assert (episode_seed(*first) == episode_seed(*second)) == (first == second)


def test_episode_seeds_are_uniform():
    draws = np.array([episode_seed(1, 0, 2, 3, episode) % 50 for episode in range(20000)])
    counts = np.bincount(draws, minlength=50)
    chi2 = ((counts - 400.0) ** 2 / 400.0).sum()
    assert 25 < chi2 < 86  # 99.8 % of chi-square with 49 degrees of freedom


@pytest.mark.parametrize(
    "seed", [-1, MAX_SEED + 1, 1.0, "1", None, True, np.True_, np.float64(1)]
)
def test_what_is_not_a_seed_is_refused(seed):
    with pytest.raises(SuiteError, match="seed must be an integer from 0"):
        check_seed("seed", seed)


@pytest.mark.parametrize("seed", [0, MAX_SEED, np.int64(7), np.uint8(7)])
def test_seeds_become_plain_integers(seed):
    assert check_seed("seed", seed) == seed and type(check_seed("seed", seed)) is int
