"""Starting and stepping a range of environments: the kernels that the backends call."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mtrl.envs.compiled import kernel
from mtrl.envs.minigrid.cells import BORDER, HEIGHT, HORIZON, SEE_THROUGH, STEPS, WIDTH, WORDS
from mtrl.envs.minigrid.levels import start_level
from mtrl.envs.minigrid.missions import write_mission
from mtrl.envs.minigrid.rng import chosen_level
from mtrl.envs.minigrid.rules import step_level
from mtrl.envs.minigrid.view import VIEW_BYTES, observe

START, STAND_STILL = -1, -2
"""Negative actions: start the present episode, or leave the level as it is."""


@kernel
def first_outside(actions: NDArray[np.int64], limit: int) -> int:
    """Place of the first action outside [0, limit), -1 if there is none."""
    for i in range(len(actions)):
        if actions[i] < 0 or actions[i] >= limit:
            return i
    return -1


@kernel
def run_range(
    low: int,
    high: int,
    actions: NDArray[np.int64],
    task_id: NDArray[np.int64],
    table: NDArray[np.int64],
    shown: NDArray[np.uint8],
    clear: NDArray[np.uint8],
    visible: NDArray[np.uint16],
    keys: NDArray[np.uint64],
    episodes: NDArray[np.int64],
    starts: NDArray[np.int64],
    stride: int,
    first: int,
    pool: NDArray[np.int64],
    sizes: NDArray[np.int64],
    in_order: bool,
    grids: NDArray[np.uint8],
    levels: NDArray[np.int64],
    rngs: NDArray[np.uint64],
    missions: NDArray[np.uint8],
    obs: NDArray[np.uint8],
    final_obs: NDArray[np.uint8],
    reward: NDArray[np.float64],
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
) -> None:
    """Step environments ``low`` to ``high``. Those with the action ``START`` start their present episodes. Those with
    ``STAND_STILL`` only return their observation.

    One kernel for both, because compiling all the level generators twice would take twice as long.
    """
    for i in range(low, high):
        task, grid, level = table[task_id[i]], grids[i], levels[i]
        inside = grid[BORDER : BORDER + task[HEIGHT], BORDER : BORDER + task[WIDTH]]
        starting = actions[i] == START
        if not starting:
            reward[i], terminated[i], truncated[i] = 0.0, False, False
            if actions[i] != STAND_STILL:
                reward[i], terminated[i] = step_level(inside, level, rngs[i], task, actions[i])
                truncated[i] = level[STEPS] >= task[HORIZON]
            observe(grid, level, task[SEE_THROUGH], shown, clear, visible, final_obs[i])
            final_obs[i, VIEW_BYTES + 1 :] = missions[i]
            starting = terminated[i] or truncated[i]
            episodes[i] += starting
        if starting:
            index, size = starts[i] + stride * episodes[i], sizes[task_id[i]]
            seed = chosen_level(keys[i], index, first, pool[task_id[i]], size, in_order)
            start_level(inside, level, rngs[i], task, seed)
            if task[WORDS] > 0:
                write_mission(level, missions[i])
            observe(grid, level, task[SEE_THROUGH], shown, clear, visible, obs[i])
            obs[i, VIEW_BYTES + 1 :] = missions[i]
        else:
            obs[i] = final_obs[i]
