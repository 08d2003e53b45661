"""Running normalization of observations, as declared state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLIP = 10.0


@dataclass(init=False, eq=False)
class ObsNormalizer:
    """Scales each feature to mean 0 and standard deviation 1 over all observations counted so far, clipped to ±10.

    Statistics are shared by all tasks: a feature means the same in each of them, the trunk they share keeps one frame
    of coordinates, and what hardly varies within a task (its goal's height, an absent object) is not blown up to noise.
    Moments are merged by Chan et al. (1983), the batched form of Welford's recurrence.
    """

    _count: float
    _mean: NDArray[np.float64]
    _sum_sq: NDArray[np.float64]

    def __init__(self, obs_dim: int, enabled: bool = True) -> None:
        self.enabled = enabled
        self._count = 0.0
        self._mean = np.zeros(obs_dim)
        self._sum_sq = np.zeros(obs_dim)
        self.derive()

    def count(self, obs: NDArray) -> None:
        """Merge rows ``[n, D]`` into the statistics."""
        if not self.enabled:
            return
        # Sums of float32 rows would lose the small variances that the scale divides by.
        rows = obs.astype(np.float64)
        new = len(rows)
        total = self._count + new
        mean = rows.mean(0)
        sum_sq = np.square(rows - mean).sum(0)
        delta = mean - self._mean
        between = delta**2 * (self._count * new / total)
        self._sum_sq += sum_sq + between
        self._mean += delta * (new / total)
        self._count = total
        self.derive()

    def __call__(self, obs: NDArray) -> NDArray:
        """Normalized rows ``[n, D]`` float32; without normalization categories (uint8) stay as they are."""
        if not self.enabled:
            if obs.dtype == np.uint8:
                return obs
            return obs.astype(np.float32, copy=False)
        scaled = (obs - self._mean) * self._scale
        clipped = np.clip(scaled, -CLIP, CLIP)
        return clipped.astype(np.float32)

    def derive(self) -> None:
        """Compute the scale from the moments."""
        if self._count == 0:
            self._scale = np.ones_like(self._mean)
            return
        variance = self._sum_sq / self._count
        self._scale = 1 / np.sqrt(variance + 1e-8)
