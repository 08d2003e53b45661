"""The last rounds of a per-task quantity, as declared state."""

from __future__ import annotations

import torch
from torch import Tensor

from mtrl.agents.curricula.base import State


def history(num_tasks: int, length: int) -> State:
    """Room for ``length`` rounds: ``values`` ``[length, T]``, newest last, and how many are filled."""
    return {
        "values": torch.zeros(length, num_tasks, dtype=torch.float64),
        "count": torch.zeros((), dtype=torch.int64),
    }


def push(state: State, value: Tensor) -> State:
    """With ``value`` ``[T]`` as the newest round; the oldest one is dropped."""
    values = torch.cat([state["values"][1:], value.unsqueeze(0)])
    count = (state["count"] + 1).clamp(max=len(values))
    return {"values": values, "count": count}


def filled(state: State) -> Tensor:
    """The rounds there are, ``[n, T]``, oldest first."""
    values = state["values"]
    # Not ``-count``, which would be all of them where the count is 0.
    first = len(values) - int(state["count"])
    return values[first:]


def slope(values: Tensor) -> Tensor:
    """Least-squares slope per round of ``[n, T]``, ``[T]``; 0 for fewer than two rounds."""
    n = len(values)
    if n < 2:
        return torch.zeros(values.shape[1], dtype=values.dtype)
    # Centred time, so that the intercept drops out.
    time = torch.arange(n, dtype=values.dtype) - (n - 1) / 2
    centered = values - values.mean(0)
    covariance = (time.unsqueeze(1) * centered).sum(0)
    return covariance / time.square().sum()


def under(prefix: str, state: State) -> State:
    """Entries of ``state`` whose key starts with ``prefix``, without it."""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def prefixed(prefix: str, state: State) -> State:
    """Keys with ``prefix`` put in front."""
    return {prefix + key: value for key, value in state.items()}
