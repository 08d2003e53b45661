"""Running normalization of observations, as declared state."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CLIP = 10.0


class ObsNormalizer:
    """Scales each feature to mean 0 and standard deviation 1 over all observations counted so far, clipped to ±10.

    Statistics are shared by all tasks: a feature means the same in each of them, the trunk they share keeps one frame
    of coordinates, and what hardly varies within a task (its goal's height, an absent object) is not blown up to noise.
    Moments are merged by Chan et al. (1983), the batched form of Welford's recurrence.
    """

    def __init__(self, obs_dim: int, enabled: bool = True) -> None:
        self.enabled = enabled
        self._count = 0.0
        self._mean = np.zeros(obs_dim)
        self._sum_sq = np.zeros(obs_dim)
        self._scale = np.ones(obs_dim)

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
        self._rescale()

    def __call__(self, obs: NDArray) -> NDArray:
        """Normalized rows ``[n, D]`` float32; without normalization categories (uint8) stay as they are."""
        if not self.enabled:
            if obs.dtype == np.uint8:
                return obs
            return obs.astype(np.float32, copy=False)
        scaled = (obs - self._mean) * self._scale
        clipped = np.clip(scaled, -CLIP, CLIP)
        return clipped.astype(np.float32)

    def _rescale(self) -> None:
        if self._count > 0:
            variance = self._sum_sq / self._count
            self._scale = 1 / np.sqrt(variance + 1e-8)

    def state_dict(self) -> dict[str, Tensor | float]:
        # Copies, since ``count`` adds to the arrays in place.
        return {
            "count": self._count,
            "mean": torch.from_numpy(self._mean.copy()),
            "sum_sq": torch.from_numpy(self._sum_sq.copy()),
        }

    def load_state_dict(self, state: dict[str, Tensor | float]) -> None:
        mean = state["mean"]
        sum_sq = state["sum_sq"]
        assert isinstance(mean, Tensor)
        assert isinstance(sum_sq, Tensor)
        self._count = float(state["count"])
        self._mean = mean.cpu().numpy().copy()
        self._sum_sq = sum_sq.cpu().numpy().copy()
        self._rescale()
