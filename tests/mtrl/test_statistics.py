import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mtrl.statistics import t_interval, wilson_interval


@settings(deadline=None, max_examples=60)
@given(trials=st.integers(1, 500), share=st.floats(0, 1), confidence=st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_wilson_equals_scipy(trials: int, share: float, confidence: float) -> None:
    successes = round(share * trials)
    expected = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    low, high = wilson_interval(successes, trials, confidence)
    assert low == pytest.approx(expected.low, abs=1e-12)
    assert high == pytest.approx(expected.high, abs=1e-12)
    assert 0 <= low <= successes / trials <= high <= 1


def test_wilson_ends_are_exact() -> None:
    assert wilson_interval(0, 50)[0] == 0.0
    assert wilson_interval(50, 50)[1] == 1.0
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("arguments", [(-1, 5), (6, 5), (1, 5, 0.0), (1, 5, 1.0)])
def test_wilson_refuses_nonsense(arguments: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="is not between"):
        wilson_interval(*arguments)


@settings(deadline=None, max_examples=60)
@given(values=st.lists(st.floats(-100, 100), min_size=2, max_size=20), confidence=st.sampled_from([0.5, 0.95, 0.99]))
def test_t_interval_equals_scipy(values: list[float], confidence: float) -> None:
    mean, low, high = t_interval(values, confidence)
    half = stats.t.ppf(0.5 + confidence / 2, len(values) - 1) * stats.sem(values)
    assert mean == pytest.approx(np.mean(values), abs=1e-9)
    assert (low, high) == pytest.approx((np.mean(values) - half, np.mean(values) + half), abs=1e-9)


def test_t_interval_of_one_value_and_of_none() -> None:
    mean, low, high = t_interval([0.5])
    assert mean == 0.5
    assert math.isnan(low)
    assert math.isnan(high)
    with pytest.raises(ValueError, match="at least one value"):
        t_interval([])
    with pytest.raises(ValueError, match="confidence"):
        t_interval([1.0, 2.0], 1.5)
