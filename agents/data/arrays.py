"""Arrays of environments, numpy's or tensors on a device: where they become the agent's, and how both are computed on.

Environments say where their arrays live (``TaskVectorEnv.device``). What is counted or kept at every step, such as
statistics of observations, stays there too.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array: TypeAlias = Any
"""``numpy.ndarray`` or ``torch.Tensor``."""


def to_tensor(array: Array, device: torch.device | None = None) -> Tensor:
    """``array`` as a tensor on ``device``, or where it is; without a copy where it is there already."""
    tensor: Tensor = array if isinstance(array, Tensor) else torch.from_numpy(array)
    return tensor if device is None else tensor.to(device)


def placed(array: Array, device: torch.device | None) -> Array:
    """``array`` as an environment's ``device`` has it: of numpy for None; without a copy where it is there already."""
    if device is not None:
        return to_tensor(array, device)
    return array.detach().cpu().numpy() if isinstance(array, Tensor) else array


def device_of(array: Array) -> torch.device | None:
    """The device of a tensor; None for all else."""
    return array.device if isinstance(array, Tensor) else None


def given(value: Any) -> Array:
    """A tensor as it is, anything else as ``np.asarray`` makes an array of it."""
    return value if isinstance(value, Tensor) else np.asarray(value)


def functions(array: Array) -> Any:
    """``torch`` or ``numpy``, for functions that both have under one name."""
    return torch if isinstance(array, Tensor) else np


def as_type(array: Array, name: str) -> Array:
    """``array`` in the type of that name, such as ``float32``."""
    if isinstance(array, Tensor):
        return array.to(getattr(torch, name))
    return array.astype(name, copy=False)


def zeros(shape: tuple[int, ...], device: torch.device | None, name: str = "float64") -> Array:
    """Zeros of the type ``name``; of numpy where ``device`` is None."""
    if device is None:
        return np.zeros(shape, name)
    return torch.zeros(shape, dtype=getattr(torch, name), device=device)


def host(array: Array) -> NDArray:
    """``array`` of numpy, which waits for its device: for logs, callbacks and files."""
    found: NDArray = placed(array, None)
    return found
