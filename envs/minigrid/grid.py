"""Drawing on a grid and placing things at random, in the order of draws of minigrid.

Grids here are views without the border, indexed ``[y, x]``. minigrid gives up on a placement after 1,000 tries and
raises; in the levels generated here a free cell always exists, so that has a probability below 1e-15 and is left out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mtrl.envs.compiled import kernel
from mtrl.envs.minigrid.cells import COLORS_BY_NAME, DIRECTION, EMPTY, KEY, WALL, X, Y
from mtrl.envs.minigrid.rng import rand_int

Grid = NDArray[np.uint8]
State = NDArray[np.int64]
Rng = NDArray[np.uint64]


@kernel
def wall_rect(grid: Grid, x: int, y: int, width: int, height: int) -> None:
    grid[y, x : x + width] = WALL
    grid[y + height - 1, x : x + width] = WALL
    grid[y : y + height, x] = WALL
    grid[y : y + height, x + width - 1] = WALL


@kernel
def place(
    grid: Grid,
    state: State,
    rng: Rng,
    cell: int,
    x0: int,
    y0: int,
    width: int,
    height: int,
    apart: int,
) -> tuple[int, int]:
    """Put ``cell`` (0: nothing, only find a place) on a random empty cell of a rectangle; returns its x and y.

    Cells nearer than ``apart`` to the agent in Manhattan distance are refused; with 0 only the agent's own.
    """
    right, bottom = min(x0 + width, grid.shape[1]), min(y0 + height, grid.shape[0])
    while True:
        x = rand_int(rng, x0, right)
        y = rand_int(rng, y0, bottom)
        distance = abs(x - state[X]) + abs(y - state[Y])
        if grid[y, x] == EMPTY and distance != 0 and distance >= apart:
            break
    if cell != 0:
        grid[y, x] = cell
    return x, y


@kernel
def place_agent(
    grid: Grid, state: State, rng: Rng, x0: int, y0: int, width: int, height: int
) -> None:
    state[X] = state[Y] = -1
    state[X], state[Y] = place(grid, state, rng, 0, x0, y0, width, height, 0)
    state[DIRECTION] = rand_int(rng, 0, 4)


@kernel
def place_agent_anywhere(grid: Grid, state: State, rng: Rng) -> None:
    place_agent(grid, state, rng, 0, 0, grid.shape[1], grid.shape[0])


@kernel
def rand_color(rng: Rng) -> int:
    return COLORS_BY_NAME[rand_int(rng, 0, 6)]


@kernel
def rand_type(rng: Rng) -> int:
    """Key, ball or box."""
    return KEY + rand_int(rng, 0, 3)
