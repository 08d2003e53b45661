"""Exploration noise of on-policy agents: standard normal numbers, correlated over time where that is asked for."""

from __future__ import annotations

from torch import Tensor

from mtrl.agents.data.arrays import Array, to_tensor


def correlated(last: Tensor | None, fresh: Tensor, correlation: Array | None) -> Tensor | None:
    """The next noise of an AR(1) process for every environment, so that actions push in one direction for a while.

    Each number alone stays standard normal (Hollenstein et al. 2024, "Colored Noise in PPO", shape the noise's spectrum
    instead).

    Args:
        last: the noise of the last step; None where nothing goes on from it.
        fresh: independent standard normal numbers ``[S, T, E, A]``, S or T being 1.
        correlation: of successive noise of each task, ``[T]`` float64, wherever it lives; None where there is none.

    Returns:
        Noise of the shape of ``fresh``; None without correlation, where ``fresh`` does as it is.
    """
    if correlation is None:
        return None
    if last is None:
        return fresh
    rho = to_tensor(correlation, fresh.device).view(*fresh.shape[:2], 1, 1)
    added = (1 - rho.square()).sqrt().float()
    return rho.float() * last.to(fresh.device) + added * fresh
