"""Levels of the tasks made of several rooms, draw for draw as minigrid makes them."""

from __future__ import annotations

import numpy as np

from mtrl.envs.compiled import kernel
from mtrl.envs.minigrid.cells import (
    BALL,
    BLUE,
    BOX,
    CLOSED,
    COLORS_BY_NAME,
    CONTENTS,
    COUNT,
    FLAG,
    GOAL,
    GREEN,
    GREY,
    KEY,
    SIZE,
    VARIANT,
)
from mtrl.envs.minigrid.grid import Grid, Rng, State, place, place_agent, rand_color, wall_rect
from mtrl.envs.minigrid.levels_plain import Task
from mtrl.envs.minigrid.missions import PICK_UP, describe
from mtrl.envs.minigrid.rng import rand_int
from mtrl.envs.minigrid.rooms import (
    DOWN,
    LEFT,
    RIGHT,
    add_door,
    build_rooms,
    connect_all,
    open_wall_above,
    place_agent_in_room,
    place_in_room,
)


@kernel
def key_corridor(grid: Grid, state: State, rng: Rng, task: Task) -> None:
    """Flagged: the ball behind the locked door."""
    side, rows = task[SIZE], task[COUNT]
    rooms = build_rooms(grid, state, rng, side, rows, 3)
    for j in range(1, rows):
        open_wall_above(grid, rooms, side, 1, j)
    row = rand_int(rng, 0, rows)
    door_color, _, _ = add_door(grid, rooms, rng, side, 2, row, LEFT, -1, 1)
    color = rand_color(rng)
    place_in_room(grid, state, rng, side, 2, row, BALL | color << 4 | FLAG)
    place_in_room(grid, state, rng, side, 0, rand_int(rng, 0, rows), KEY | door_color << 4)
    place_agent_in_room(grid, state, rng, side, 1, rows // 2)
    connect_all(grid, state, rooms, rng, side)
    describe(state, PICK_UP, 0, color, BALL)


@kernel
def unlock(grid: Grid, state: State, rng: Rng, task: Task) -> None:
    """Two rooms, a locked door. Variant 0: open it (flagged). 1: fetch the box (flagged) behind. 2: a ball blocks."""
    side = task[SIZE]
    rooms = build_rooms(grid, state, rng, side, 1, 2)
    if task[VARIANT] > 0:
        color = rand_color(rng)
        place_in_room(grid, state, rng, side, 1, 0, BOX | color << 4 | FLAG)
        describe(state, PICK_UP, 0, color, BOX)
    door_color, x, y = add_door(grid, rooms, rng, side, 0, 0, RIGHT, -1, 1)
    if task[VARIANT] == 0:
        grid[y, x] |= FLAG
    if task[VARIANT] == 2:
        grid[y, x - 1] = BALL | rand_color(rng) << 4
    place_in_room(grid, state, rng, side, 0, 0, KEY | door_color << 4)
    place_agent_in_room(grid, state, rng, side, 0, 0)


@kernel
def obstructed_maze(grid: Grid, state: State, rng: Rng, task: Task) -> None:
    """Two rooms, a blue ball (flagged) behind a lock. Variant 0: key in sight; 1: in a box; 2: and a ball blocks."""
    side = task[SIZE]
    rooms = build_rooms(grid, state, rng, side, 1, 2)
    # minigrid shuffles all six colors by drawing them one by one; only the first is used.
    door_color = rand_color(rng)
    for left in range(5, 1, -1):
        rand_int(rng, 0, left)
    _, x, y = add_door(grid, rooms, rng, side, 0, 0, RIGHT, door_color, 1)
    if task[VARIANT] == 2:
        grid[y, x - 1] = BALL | GREEN << 4
    key = KEY | door_color << 4
    if task[VARIANT] > 0:
        state[CONTENTS] = key
        key = BOX | GREY << 4
    place_in_room(grid, state, rng, side, 0, 0, key)
    place_in_room(grid, state, rng, side, 1, 0, BALL | BLUE << 4 | FLAG)
    place_agent_in_room(grid, state, rng, side, 0, 0)


@kernel
def _try_room(
    rng: Rng, chain: State, count: int, entry: int, x: int, y: int, largest: int, extent: int
) -> bool:
    """Try to place room ``count`` of a chain so that its wall ``entry`` holds the door (x, y).

    Rows of ``chain`` are: left, top, width, height, door x, door y. The room before may overlap: it shares the wall.
    """
    width = rand_int(rng, 4, largest + 1)
    height = rand_int(rng, 4, largest + 1)
    left, top = x, y
    if count > 0 and entry % 2 == 0:
        top = rand_int(rng, y - height + 2, y)
        left = x - width + 1 if entry == RIGHT else x
    elif count > 0:
        left = rand_int(rng, x - width + 2, x)
        top = y - height + 1 if entry == DOWN else y
    if left < 0 or top < 0 or left + width > extent or top + height >= extent:
        return False
    for k in range(count - 1):
        apart_x = left + width < chain[k, 0] or chain[k, 0] + chain[k, 2] <= left
        apart_y = top + height < chain[k, 1] or chain[k, 1] + chain[k, 3] <= top
        if not apart_x and not apart_y:
            return False
    chain[count, 0], chain[count, 1], chain[count, 2], chain[count, 3] = (
        left,
        top,
        width,
        height,
    )
    chain[count, 4], chain[count, 5] = x, y
    return True


@kernel
def _chain_of_rooms(rng: Rng, chain: State, largest: int, extent: int) -> int:
    """One attempt at a chain of ``len(chain)`` rooms; returns how many found a place."""
    x = rand_int(rng, 0, extent - 2)
    y = rand_int(rng, 0, extent - 2)
    entry, count = LEFT, 0
    placed = _try_room(rng, chain, 0, entry, x, y, largest, extent)
    while placed:
        count += 1
        placed = False
        left, top, width, height = (
            chain[count - 1, 0],
            chain[count - 1, 1],
            chain[count - 1, 2],
            chain[count - 1, 3],
        )
        tries = 8 if count < len(chain) else 0
        while tries > 0 and not placed:
            tries -= 1
            leave = rand_int(rng, 0, 3)
            leave += leave >= entry
            if leave % 2 == 0:
                x = left + width - 1 if leave == RIGHT else left
                y = top + rand_int(rng, 1, height - 1)
            else:
                x = left + rand_int(rng, 1, width - 1)
                y = top + height - 1 if leave == DOWN else top
            placed = _try_room(rng, chain, count, (leave + 2) % 4, x, y, largest, extent)
            if placed:
                entry = (leave + 2) % 4
    return count


@kernel
def multi_room(grid: Grid, state: State, rng: Rng, task: Task) -> None:
    chain = np.zeros((task[COUNT], 6), np.int64)
    while _chain_of_rooms(rng, chain, task[SIZE], grid.shape[0]) < len(chain):
        pass
    last_color = -1
    for k in range(len(chain)):
        wall_rect(grid, chain[k, 0], chain[k, 1], chain[k, 2], chain[k, 3])
        if k > 0:
            # Colors by name without the last one: places from the last one on move up by one.
            drawn = rand_int(rng, 0, 6 if last_color < 0 else 5)
            drawn += last_color >= 0 and drawn >= last_color
            grid[chain[k, 5], chain[k, 4]] = CLOSED | COLORS_BY_NAME[drawn] << 4
            last_color = drawn
    place_agent(grid, state, rng, chain[0, 0], chain[0, 1], chain[0, 2], chain[0, 3])
    place(grid, state, rng, GOAL, chain[-1, 0], chain[-1, 1], chain[-1, 2], chain[-1, 3], 0)
