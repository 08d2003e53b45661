"""Exploration noise of on-policy agents: standard normal numbers, correlated over time where that is asked for."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class CorrelatedNoise:
    """An AR(1) process for every environment, so that actions push in one direction for a while.

    Each number alone stays standard normal (Hollenstein et al. 2024, "Colored Noise in PPO", shape the noise's spectrum
    instead).

    Attributes:
        last: the noise of the last step; None where nothing goes on from it.
    """

    def __init__(self) -> None:
        self.last: Tensor | None = None

    def next(self, fresh: Tensor, correlation: NDArray[np.float64]) -> Tensor:
        """The noise of the next step, of the shape of ``fresh``.

        Args:
            fresh: independent standard normal numbers ``[S, T, E, A]``, S or T being 1.
            correlation: of successive noise of each task, ``[T]``.
        """
        if not correlation.any():
            self.last = None
            return fresh
        rho = torch.from_numpy(correlation).view(*fresh.shape[:2], 1, 1)
        kept = rho.float().to(fresh.device)
        added = (1 - rho.square()).sqrt().float().to(fresh.device)
        self.last = fresh if self.last is None else kept * self.last + added * fresh
        return self.last
