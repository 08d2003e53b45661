import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mtrl.statistics import (
    interquartile_mean,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    t_interval,
    welch_interval,
    wilson_interval,
    worst_k_mean,
)

SEED_MEANS = st.lists(st.floats(-10, 10), min_size=2, max_size=12)


@st.composite
def matrices(draw: st.DrawFn, tasks: int | None = None) -> np.ndarray:
    """Scores [run, task] in steps of 1/50, as evaluations give them."""
    tasks = draw(st.integers(1, 8)) if tasks is None else tasks
    runs = draw(st.integers(1, 6))
    counts = draw(st.lists(st.integers(0, 50), min_size=runs * tasks, max_size=runs * tasks))
    return np.array(counts, dtype=float).reshape(runs, tasks) / 50


@settings(deadline=None, max_examples=60)
@given(
    trials=st.integers(1, 500),
    share=st.floats(0, 1),
    confidence=st.sampled_from([0.5, 0.9, 0.95, 0.99]),
)
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
@given(
    values=st.lists(st.floats(-100, 100), min_size=2, max_size=20),
    confidence=st.sampled_from([0.5, 0.95, 0.99]),
)
def test_t_interval_equals_scipy(values: list[float], confidence: float) -> None:
    mean, low, high = t_interval(values, confidence)
    half = stats.t.ppf(0.5 + confidence / 2, len(values) - 1) * stats.sem(values)
    assert mean == pytest.approx(np.mean(values), abs=1e-9)
    assert (low, high) == pytest.approx(
        (np.mean(values) - half, np.mean(values) + half), abs=1e-9
    )


def test_t_interval_of_one_value_and_of_none() -> None:
    mean, low, high = t_interval([0.5])
    assert mean == 0.5
    assert math.isnan(low)
    assert math.isnan(high)
    with pytest.raises(ValueError, match="at least one value"):
        t_interval([])
    with pytest.raises(ValueError, match="confidence"):
        t_interval([1.0, 2.0], 1.5)


@settings(deadline=None, max_examples=60)
@given(first=SEED_MEANS, second=SEED_MEANS, confidence=st.sampled_from([0.5, 0.95, 0.99]))
def test_welch_equals_scipy(first: list[float], second: list[float], confidence: float) -> None:
    difference, low, high = welch_interval(first, second, confidence)
    assert difference == pytest.approx(np.mean(first) - np.mean(second), abs=1e-9)
    if min(np.var(first), np.var(second)) > 1e-12:  # below that scipy loses its digits
        expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(
            confidence
        )
        assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-7)


def test_welch_without_spread_or_seeds() -> None:
    assert welch_interval([1.0, 1.0], [0.25, 0.25]) == (0.75, 0.75, 0.75)
    # Variances whose squares underflow.
    _, low, high = welch_interval([0.0, 0.0], [0.0, 1e-157])
    assert low < 0 < high
    difference, low, high = welch_interval([1.0], [0.0, 0.5])
    assert difference == 0.75
    assert math.isnan(low)
    assert math.isnan(high)
    with pytest.raises(ValueError, match="each side"):
        welch_interval([], [1.0])
    with pytest.raises(ValueError, match=r"confidence: 1\.0 is not between 0 and 1"):
        welch_interval([0.0, 1.0], [0.0, 1.0], 1.0)


@settings(deadline=None, max_examples=60)
@given(scores=matrices(), thresholds=st.lists(st.floats(-0.1, 1.1), min_size=1, max_size=9))
def test_summaries_equal_scipy_and_their_definitions(
    scores: np.ndarray, thresholds: list[float]
) -> None:
    assert interquartile_mean(scores) == pytest.approx(stats.trim_mean(scores, 0.25, axis=None))
    assert optimality_gap(scores) == pytest.approx(1 - scores.mean())
    expected = [(scores > threshold).mean() for threshold in thresholds]
    assert performance_profile(scores, thresholds) == pytest.approx(expected)
    tasks = scores.shape[1]
    assert worst_k_mean(scores, tasks) == pytest.approx(scores.mean())
    assert worst_k_mean(scores, 1) == pytest.approx(scores.min(1).mean())


@settings(deadline=None, max_examples=60)
@given(data=st.data(), tasks=st.integers(1, 5))
def test_probability_of_improvement_is_the_mean_mann_whitney(
    data: st.DataObject, tasks: int
) -> None:
    first, second = data.draw(matrices(tasks)), data.draw(matrices(tasks))
    statistics = [
        stats.mannwhitneyu(first[:, task], second[:, task]).statistic for task in range(tasks)
    ]
    expected = np.mean(statistics) / (len(first) * len(second))
    assert probability_of_improvement(first, second) == pytest.approx(expected)
    assert probability_of_improvement(second, first) == pytest.approx(1 - expected)


def test_what_the_interquartile_mean_hides_the_worst_tasks_show() -> None:
    scores = np.array([[1.0] * 8 + [0.0] * 2] * 5)
    assert interquartile_mean(scores) == 1.0
    assert worst_k_mean(scores, 2) == 0.0
    assert optimality_gap(scores) == pytest.approx(0.2)
    assert optimality_gap([[2.0, 0.5]]) == 0.25
    assert optimality_gap([[2.0, 0.5]], target=1.5) == 0.5


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (3,)])
def test_summaries_refuse_what_is_not_a_matrix(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        interquartile_mean(np.zeros(shape))


def test_summaries_refuse_what_does_not_fit() -> None:
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"k: {k} is not between 1 and the .* tasks, 3"):
            worst_k_mean(np.zeros((2, 3)), k)
    with pytest.raises(ValueError, match="3 tasks cannot be compared with 2"):
        probability_of_improvement(np.zeros((2, 3)), np.zeros((2, 2)))
