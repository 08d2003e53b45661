"""Frames of the compiled engine's states, drawn by minigrid's own renderer."""

from __future__ import annotations

from functools import cache
from typing import Any

import gymnasium
import minigrid  # noqa: F401  (registers the ids)
import numpy as np
from minigrid.core.grid import Grid
from minigrid.core.world_object import WorldObj
from numpy.typing import NDArray

from mtrl.envs.minigrid.cells import BORDER, CARRIED, DIRECTION, X, Y, appearance


@cache
def _blank(env_id: str) -> Any:
    return gymnasium.make(env_id, disable_env_checker=True).unwrapped


class Drawing:
    """Draws states of one id."""

    def __init__(self, env_id: str) -> None:
        self._env = _blank(env_id)

    def frame(self, grid: NDArray[np.uint8], level: NDArray[np.int64]) -> NDArray[np.uint8]:
        """RGB frame of a grid with its border, ``[rows, columns]``, and the level's state vector."""
        env, shown = self._env, appearance()
        inside = grid[BORDER : BORDER + env.height, BORDER : BORDER + env.width]
        env.grid, _ = Grid.decode(shown[inside].transpose(1, 0, 2))
        env.agent_pos = (int(level[X]), int(level[Y]))
        env.agent_dir = int(level[DIRECTION])
        held = shown[level[CARRIED]]
        env.carrying = WorldObj.decode(*held.tolist())
        frame: NDArray[np.uint8] = env.get_frame()
        return frame
