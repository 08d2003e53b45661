"""Exploration noise of on-policy agents: standard normal numbers, correlated over time where that is asked for."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def correlated(
    last: Tensor | None, fresh: Tensor, correlation: NDArray[np.float64]
) -> Tensor | None:
    """The next noise of an AR(1) process for every environment, so that actions push in one direction for a while.

    Each number alone stays standard normal (Hollenstein et al. 2024, "Colored Noise in PPO", shape the noise's spectrum
    instead).

    Args:
        last: the noise of the last step; None where nothing goes on from it.
        fresh: independent standard normal numbers ``[S, T, E, A]``, S or T being 1.
        correlation: of successive noise of each task, ``[T]``.

    Returns:
        Noise of the shape of ``fresh``; None where no task's is correlated, and ``fresh`` does as it is.
    """
    if not correlation.any():
        return None
    if last is None:
        return fresh
    rho = torch.from_numpy(correlation).view(*fresh.shape[:2], 1, 1)
    kept = rho.float()
    added = (1 - rho.square()).sqrt().float()
    return kept * last + added * fresh
