"""Frames of environments that are drawn in different sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def padded(frames: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], ...]:
    """Frames ``[height, width, 3]`` in the middle of black ones that are as high and as wide as the largest."""
    height = max(frame.shape[0] for frame in frames)
    width = max(frame.shape[1] for frame in frames)
    return tuple(_centred(frame, height, width) for frame in frames)


def _centred(frame: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    above, left = (height - frame.shape[0]) // 2, (width - frame.shape[1]) // 2
    below, right = height - frame.shape[0] - above, width - frame.shape[1] - left
    return np.pad(frame, ((above, below), (left, right), (0, 0)))
