"""The agent's partial view, encoded as minigrid encodes it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mtrl.envs.compiled import kernel
from mtrl.envs.minigrid.cells import BORDER, CARRIED, DIRECTION, EMPTY, STEP_X, STEP_Y, X, Y

VIEW_BYTES = 7 * 7 * 3


@kernel
def observe(
    grid: NDArray[np.uint8],
    state: NDArray[np.int64],
    see_through: int,
    shown: NDArray[np.uint8],
    clear: NDArray[np.uint8],
    visible: NDArray[np.uint16],
    out: NDArray[np.uint8],
) -> None:
    """Write view and direction of one environment to ``out[:148]``; ``grid`` includes its border."""
    direction = state[DIRECTION]
    ahead_x, ahead_y = STEP_X[direction], STEP_Y[direction]
    right_x, right_y = -ahead_y, ahead_x
    lit = np.int64(8)
    for row in range(6, -1, -1):
        x = state[X] + BORDER + ahead_x * (6 - row) - 3 * right_x
        y = state[Y] + BORDER + ahead_y * (6 - row) - 3 * right_y
        seen = np.int64(127)
        if see_through == 0:
            open_cells = np.int64(0)
            for column in range(7):
                open_cells |= (
                    np.int64(clear[grid[y + column * right_y, x + column * right_x]]) << column
                )
            entry = np.int64(visible[lit * 128 + open_cells])
            seen, lit = entry & 127, entry >> 7
        for column in range(7):
            at = (column * 7 + row) * 3
            # The bit test as a product keeps the inner loop free of branches.
            cell = grid[y + column * right_y, x + column * right_x] * ((seen >> column) & 1)
            out[at] = shown[cell, 0]
            out[at + 1] = shown[cell, 1]
            out[at + 2] = shown[cell, 2]
    held = state[CARRIED] if state[CARRIED] != 0 else EMPTY
    at = (3 * 7 + 6) * 3
    out[at] = shown[held, 0]
    out[at + 1] = shown[held, 1]
    out[at + 2] = shown[held, 2]
    out[VIEW_BYTES] = direction
