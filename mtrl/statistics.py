"""Intervals for success rates and seed means. Pure functions of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import stats


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval for a success rate (Wilson 1927, eq. 1; no continuity correction).

    Args:
        successes: number of successes, ``0 <= successes <= trials``.
        trials: number of trials; with none the interval is (0, 1).

    Raises:
        ValueError: counts out of order, or a confidence outside (0, 1).
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes: {successes} is not between 0 and the number of trials, {trials}")
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


def _checked(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: {confidence} is not between 0 and 1")
    return confidence
