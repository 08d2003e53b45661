"""Running normalization of observations, as declared state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtrl.agents.data.arrays import Array, as_type, device_of, functions, placed

CLIP = 10.0


@dataclass(init=False, eq=False)
class ObsNormalizer:
    """Scales each feature to mean 0 and standard deviation 1 over all observations counted so far, clipped to ±10.

    Statistics are shared by all tasks: a feature means the same in each of them, the trunk they share keeps one frame
    of coordinates, and what hardly varies within a task (its goal's height, an absent object) is not blown up to noise.
    Moments are merged by Chan et al. (1983), the batched form of Welford's recurrence. They are float64, and live where
    the rows do that are counted.
    """

    _count: float
    _mean: Array
    _sum_sq: Array

    def __init__(self, obs_dim: int, enabled: bool = True) -> None:
        self.enabled = enabled
        self._count = 0.0
        self._mean = np.zeros(obs_dim)
        self._sum_sq = np.zeros(obs_dim)
        self.derive()

    def count(self, obs: Array) -> None:
        """Merge rows ``[n, D]`` into the statistics."""
        if not self.enabled:
            return
        self._mean = placed(self._mean, device_of(obs))
        self._sum_sq = placed(self._sum_sq, device_of(obs))
        # Sums of float32 rows would lose the small variances that the scale divides by.
        rows = as_type(obs, "float64")
        new = len(rows)
        total = self._count + new
        mean = rows.mean(0)
        sum_sq = functions(rows).square(rows - mean).sum(0)
        delta = mean - self._mean
        between = delta**2 * (self._count * new / total)
        self._sum_sq += sum_sq + between
        self._mean += delta * (new / total)
        self._count = total
        self.derive()

    def __call__(self, obs: Array) -> Array:
        """Normalized rows ``[n, D]`` float32; without normalization categories (uint8) stay as they are."""
        if not self.enabled:
            is_category = obs.dtype == functions(obs).uint8
            return obs if is_category else as_type(obs, "float32")
        mean = placed(self._mean, device_of(obs))
        scale = placed(self._scale, device_of(obs))
        scaled = (obs - mean) * scale
        return as_type(scaled.clip(-CLIP, CLIP), "float32")

    def derive(self) -> None:
        """Compute the scale from the moments."""
        of = functions(self._mean)
        if self._count == 0:
            self._scale = of.ones_like(self._mean)
            return
        variance = self._sum_sq / self._count
        self._scale = 1 / of.sqrt(variance + 1e-8)
