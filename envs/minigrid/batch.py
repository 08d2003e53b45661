"""Starting and stepping a range of environments: the two kernels that the backend calls."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.minigrid.cells import BORDER, HEIGHT, HORIZON, SEE_THROUGH, STEPS, WIDTH, WORDS
from envs.minigrid.jit import kernel
from envs.minigrid.levels import start_level
from envs.minigrid.missions import write_mission
from envs.minigrid.rng import level_seed
from envs.minigrid.rules import step_level
from envs.minigrid.view import VIEW_BYTES, observe


@kernel
def _inside(grid: NDArray[np.uint8], task: NDArray[np.int64]) -> NDArray[np.uint8]:
    return grid[BORDER : BORDER + task[HEIGHT], BORDER : BORDER + task[WIDTH]]


@kernel
def _begin(grid: Any, level: Any, rng: Any, mission: Any, task: Any, seed: int) -> None:
    start_level(_inside(grid, task), level, rng, task, seed)
    if task[WORDS] > 0:
        write_mission(level, mission)


@kernel
def start_range(
    low: int,
    high: int,
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
    grids: NDArray[np.uint8],
    levels: NDArray[np.int64],
    rngs: NDArray[np.uint64],
    missions: NDArray[np.uint8],
    obs: NDArray[np.uint8],
) -> None:
    """Start the present episode of environments ``low`` to ``high`` and write their first observations."""
    for i in range(low, high):
        task = table[task_id[i]]
        seed = level_seed(keys[i], starts[i] + stride * episodes[i], first)
        _begin(grids[i], levels[i], rngs[i], missions[i], task, seed)
        observe(grids[i], levels[i], task[SEE_THROUGH], shown, clear, visible, obs[i])
        obs[i, VIEW_BYTES + 1 :] = missions[i]


@kernel
def step_range(
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
    """Step environments ``low`` to ``high``; where an episode ends, the next one begins."""
    for i in range(low, high):
        task = table[task_id[i]]
        grid, level = grids[i], levels[i]
        reward[i], terminated[i] = step_level(_inside(grid, task), level, rngs[i], task, actions[i])
        truncated[i] = level[STEPS] >= task[HORIZON]
        observe(grid, level, task[SEE_THROUGH], shown, clear, visible, final_obs[i])
        final_obs[i, VIEW_BYTES + 1 :] = missions[i]
        if terminated[i] or truncated[i]:
            episodes[i] += 1
            seed = level_seed(keys[i], starts[i] + stride * episodes[i], first)
            _begin(grid, level, rngs[i], missions[i], task, seed)
            observe(grid, level, task[SEE_THROUGH], shown, clear, visible, obs[i])
            obs[i, VIEW_BYTES + 1 :] = missions[i]
        else:
            obs[i] = final_obs[i]
