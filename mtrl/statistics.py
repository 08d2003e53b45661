"""Intervals and summaries of success rates. Pure functions of numbers.

One run gives the scores of all tasks from one network, so the tasks of a seed are not independent. Every interval for
ranking therefore takes one mean per seed; scores are arrays ``[run, task]``, one row per seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Scores = NDArray[np.float64]


def wilson_interval(
    successes: int, trials: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Wilson score interval for a success rate (Wilson 1927, eq. 1; no continuity correction).

    Args:
        successes: number of successes, ``0 <= successes <= trials``.
        trials: number of trials; with none the interval is (0, 1).

    Raises:
        ValueError: counts out of order, or a confidence outside (0, 1).
    """
    if not 0 <= successes <= trials:
        raise ValueError(
            f"successes: {successes} is not between 0 and the number of trials, {trials}"
        )
    z = stats.norm.ppf(0.5 + _checked(confidence) / 2)
    if trials == 0:
        return 0.0, 1.0
    rate = successes / trials
    scale = 1 + z * z / trials
    center = (rate + z * z / (2 * trials)) / scale
    half = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials)) / scale
    # At the ends the exact bound is 0 or 1; rounding would leave it a few ulp inside.
    low = 0.0 if successes == 0 else float(center - half)
    high = 1.0 if successes == trials else float(center + half)
    return low, high


def t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean of per-seed values with Student's t-interval: ``(mean, low, high)``.

    One value has no interval: low and high are then NaN.

    Raises:
        ValueError: no values, or a confidence outside (0, 1).
    """
    if not values:
        raise ValueError("values: at least one value is needed for a mean")
    _checked(confidence)
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return mean, math.nan, math.nan
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * math.sqrt(variance / n)
    return mean, mean - half, mean + half


def welch_interval(
    values: Sequence[float], baseline: Sequence[float], confidence: float = 0.95
) -> tuple[float, float, float]:
    """Difference of two means of per-seed values, with Welch's interval: ``(difference, low, high)``.

    Variances may differ; degrees of freedom by Satterthwaite (Welch 1947, eq. 28). With fewer than two values on
    either side there is no interval, and low and high are NaN.

    Raises:
        ValueError: no values on a side, or a confidence outside (0, 1).
    """
    if not values or not baseline:
        raise ValueError("values: at least one value is needed on each side of a difference")
    _checked(confidence)
    difference = math.fsum(values) / len(values) - math.fsum(baseline) / len(baseline)
    if len(values) < 2 or len(baseline) < 2:
        return difference, math.nan, math.nan
    first = float(np.var(values, ddof=1)) / len(values)
    second = float(np.var(baseline, ddof=1)) / len(baseline)
    if first + second == 0:
        return difference, difference, difference
    share = first / (first + second)  # the squares of tiny variances would underflow
    freedom = 1 / (share**2 / (len(values) - 1) + (1 - share) ** 2 / (len(baseline) - 1))
    half = float(stats.t.ppf(0.5 + confidence / 2, freedom)) * math.sqrt(first + second)
    return difference, difference - half, difference + half


def interquartile_mean(scores: ArrayLike) -> float:
    """Mean of the middle half of all runs' and tasks' scores (Agarwal et al. 2021, section 4.3).

    It hides what lies outside: eight tasks at 1 and two at 0 give 1.
    """
    return float(stats.trim_mean(_matrix(scores).ravel(), 0.25))


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> Scores:
    """Share of runs and tasks that score above each threshold (Agarwal et al. 2021, eq. 2)."""
    ordered = np.sort(_matrix(scores), axis=None)
    below = np.searchsorted(ordered, np.asarray(thresholds, dtype=np.float64), side="right")
    return np.asarray(1.0 - below / ordered.size, dtype=np.float64)


def worst_k_mean(scores: ArrayLike, k: int) -> float:
    """Average the scores of each run's ``k`` worst tasks, then over runs. A mean over all tasks can hide those tasks.

    Raises:
        ValueError: ``k`` is not between 1 and the number of tasks.
    """
    matrix = _matrix(scores)
    if not 1 <= k <= matrix.shape[1]:
        raise ValueError(f"k: {k} is not between 1 and the number of tasks, {matrix.shape[1]}")
    return float(np.sort(matrix, axis=1)[:, :k].mean())


def optimality_gap(scores: ArrayLike, target: float = 1.0) -> float:
    """Mean amount by which scores fall short of ``target`` (Agarwal et al. 2021, section 4.3)."""
    return float(np.maximum(target - _matrix(scores), 0.0).mean())


def probability_of_improvement(scores: ArrayLike, baseline: ArrayLike) -> float:
    """Chance that a run beats one of the baseline on a task drawn at random (Agarwal et al. 2021, section 4.3).

    The mean over tasks of the Mann-Whitney statistic over pairs of runs; a tie counts half.

    Raises:
        ValueError: the two have different numbers of tasks.
    """
    first, second = _matrix(scores), _matrix(baseline)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"scores: {first.shape[1]} tasks cannot be compared with {second.shape[1]}"
        )
    wins = np.sign(first[:, None] - second[None]) / 2 + 0.5
    return float(wins.mean())


def _matrix(scores: ArrayLike) -> Scores:
    matrix = np.asarray(scores, dtype=np.float64)
    if matrix.ndim != 2 or not matrix.size:
        raise ValueError(
            f"scores: an array [run, task] with entries is needed, not one of shape {matrix.shape}"
        )
    return matrix


def _checked(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: {confidence} is not between 0 and 1")
    return confidence
