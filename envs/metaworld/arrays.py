"""The arrays that environments and their vector environment exchange, laid out in one buffer."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

OBS_SIZE = 39
GOAL_SIZE = 6
FRAME_SHAPE = (480, 480, 3)
INFO_KEYS = (
    "success",
    "near_object",
    "grasp_success",
    "grasp_reward",
    "in_place_reward",
    "obj_to_target",
    "unscaled_reward",
)


class Arrays:
    """Views of one buffer, one row an environment.

    Attributes:
        action: float32 [num_envs, 4], in.
        goal: float64 [num_envs, 6], in; the benchmark's random vector of the next episode, from the left.
        restart: bool [num_envs], in; which environments ``reset`` applies to.
        paused: bool [num_envs], in; which environments a step leaves as they are, their outputs too.
        obs, final_obs: float32 [num_envs, 39], out.
        reward: float64 [num_envs], out.
        truncated: bool [num_envs], in; where this step ends the episode.
        info: float64 [num_envs, 7], out, columns as ``INFO_KEYS``.
        frames: uint8 [num_envs, 480, 480, 3], out; None without rendering.
    """

    frames: NDArray[np.uint8] | None

    def __init__(
        self, num_envs: int, render: bool, buffer: bytearray | memoryview | None = None
    ) -> None:
        raw = (
            np.zeros(self.size(num_envs, render), np.uint8)
            if buffer is None
            else np.frombuffer(buffer, np.uint8)
        )
        offset = 0
        self.frames = None
        for name, dtype, shape in _fields(num_envs, render):
            end = offset + dtype.itemsize * math.prod(shape)
            setattr(self, name, raw[offset:end].view(dtype).reshape(shape))
            offset = end

    action: NDArray[np.float32]
    goal: NDArray[np.float64]
    restart: NDArray[np.bool_]
    paused: NDArray[np.bool_]
    obs: NDArray[np.float32]
    final_obs: NDArray[np.float32]
    reward: NDArray[np.float64]
    truncated: NDArray[np.bool_]
    info: NDArray[np.float64]

    @staticmethod
    def size(num_envs: int, render: bool) -> int:
        """Bytes of the buffer."""
        return sum(
            dtype.itemsize * math.prod(shape) for _, dtype, shape in _fields(num_envs, render)
        )


def _fields(num_envs: int, render: bool) -> list[tuple[str, np.dtype, tuple[int, ...]]]:
    """Widest elements first, so that every array is aligned."""
    f64, f32, flag = np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.bool_)
    fields: list[tuple[str, np.dtype, tuple[int, ...]]] = [
        ("goal", f64, (num_envs, GOAL_SIZE)),
        ("reward", f64, (num_envs,)),
        ("info", f64, (num_envs, len(INFO_KEYS))),
        ("action", f32, (num_envs, 4)),
        ("obs", f32, (num_envs, OBS_SIZE)),
        ("final_obs", f32, (num_envs, OBS_SIZE)),
        ("restart", flag, (num_envs,)),
        ("paused", flag, (num_envs,)),
        ("truncated", flag, (num_envs,)),
    ]
    if render:
        fields.append(("frames", np.dtype(np.uint8), (num_envs, *FRAME_SHAPE)))
    return fields
