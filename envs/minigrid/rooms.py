"""Grids of equal rooms joined by doors, in the order of draws of minigrid's RoomGrid.

A room record has seven numbers: whether there is a door or an opening to the right, below, to the left and above; the y
of a door in the right wall; the x of a door in the lower wall; whether the room is locked. Records form an int64
array ``[rows, columns, ROOM_SLOTS]``; side lengths
include the walls.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mtrl.envs.compiled import kernel
from mtrl.envs.minigrid.cells import (
    CLOSED,
    COLORS_BY_NAME,
    DIRECTION,
    EMPTY,
    KIND,
    LOCKED,
    STEP_X,
    STEP_Y,
    WALL_KIND,
    X,
    Y,
)
from mtrl.envs.minigrid.grid import Grid, Rng, State, place, place_agent, rand_color, wall_rect
from mtrl.envs.minigrid.rng import rand_int

RIGHT, DOWN, LEFT, UP = range(4)
DOOR_Y, DOOR_X, IS_LOCKED = 4, 5, 6
ROOM_SLOTS = 7

Rooms = NDArray[np.int64]


@kernel
def build_rooms(
    grid: Grid, state: State, rng: Rng, side: int, rows: int, columns: int
) -> Rooms:
    """Draw the walls, choose where doors may go, and put the agent in the middle; returns the room records."""
    rooms = np.zeros((rows, columns, ROOM_SLOTS), np.int64)
    grid[:, :] = EMPTY
    for j in range(rows):
        for i in range(columns):
            wall_rect(grid, i * (side - 1), j * (side - 1), side, side)
    for j in range(rows):
        for i in range(columns):
            if i < columns - 1:
                rooms[j, i, DOOR_Y] = rand_int(rng, j * (side - 1) + 1, (j + 1) * (side - 1))
            if j < rows - 1:
                rooms[j, i, DOOR_X] = rand_int(rng, i * (side - 1) + 1, (i + 1) * (side - 1))
    state[X] = (columns // 2) * (side - 1) + side // 2
    state[Y] = (rows // 2) * (side - 1) + side // 2
    state[DIRECTION] = 0
    return rooms


@kernel
def has_neighbor(rooms: Rooms, i: int, j: int, wall: int) -> bool:
    x, y = i + STEP_X[wall], j + STEP_Y[wall]
    return 0 <= x < rooms.shape[1] and 0 <= y < rooms.shape[0]


@kernel
def door_place(rooms: Rooms, side: int, i: int, j: int, wall: int) -> tuple[int, int]:
    if wall == RIGHT:
        return (i + 1) * (side - 1), rooms[j, i, DOOR_Y]
    if wall == DOWN:
        return rooms[j, i, DOOR_X], (j + 1) * (side - 1)
    if wall == LEFT:
        return i * (side - 1), rooms[j, i - 1, DOOR_Y]
    return rooms[j - 1, i, DOOR_X], j * (side - 1)


@kernel
def join(rooms: Rooms, i: int, j: int, wall: int) -> None:
    rooms[j, i, wall] = 1
    rooms[j + STEP_Y[wall], i + STEP_X[wall], (wall + 2) % 4] = 1


@kernel
def add_door(
    grid: Grid,
    rooms: Rooms,
    rng: Rng,
    side: int,
    i: int,
    j: int,
    wall: int,
    color: int,
    locked: int,
) -> tuple[int, int, int]:
    """Add a door to room (i, j); -1 draws wall, color or lock. Returns its color, x and y."""
    if wall < 0:
        wall = rand_int(rng, 0, 4)
        while not has_neighbor(rooms, i, j, wall) or rooms[j, i, wall]:
            wall = rand_int(rng, 0, 4)
    if color < 0:
        color = rand_color(rng)
    if locked < 0:
        locked = 1 - rand_int(rng, 0, 2)
    rooms[j, i, IS_LOCKED] = locked
    join(rooms, i, j, wall)
    x, y = door_place(rooms, side, i, j, wall)
    grid[y, x] = (LOCKED if locked else CLOSED) | color << 4
    return color, x, y


@kernel
def open_wall_above(grid: Grid, rooms: Rooms, side: int, i: int, j: int) -> None:
    left = i * (side - 1)
    grid[j * (side - 1), left + 1 : left + side - 1] = EMPTY
    join(rooms, i, j, UP)


@kernel
def place_in_room(
    grid: Grid, state: State, rng: Rng, side: int, i: int, j: int, cell: int
) -> tuple[int, int]:
    """Put ``cell`` in room (i, j), not beside the agent."""
    return place(grid, state, rng, cell, i * (side - 1), j * (side - 1), side, side, 2)


@kernel
def place_agent_in_room(grid: Grid, state: State, rng: Rng, side: int, i: int, j: int) -> None:
    """Put the agent in room (i, j), not facing an object."""
    while True:
        place_agent(grid, state, rng, i * (side - 1), j * (side - 1), side, side)
        front = grid[state[Y] + STEP_Y[state[DIRECTION]], state[X] + STEP_X[state[DIRECTION]]]
        if front == EMPTY or front & KIND == WALL_KIND:
            break


@kernel
def all_reachable(rooms: Rooms, i: int, j: int) -> bool:
    """Whether doors and openings lead from room (i, j) to every other."""
    reached = np.zeros(rooms.shape[:2], np.bool_)
    reached[j, i] = True
    grown = True
    while grown:
        grown = False
        for y in range(rooms.shape[0]):
            for x in range(rooms.shape[1]):
                for wall in range(4):
                    if (
                        reached[y, x]
                        and rooms[y, x, wall]
                        and not reached[y + STEP_Y[wall], x + STEP_X[wall]]
                    ):
                        reached[y + STEP_Y[wall], x + STEP_X[wall]] = True
                        grown = True
    return bool(np.all(reached))


@kernel
def connect_all(grid: Grid, state: State, rooms: Rooms, rng: Rng, side: int) -> None:
    """Add doors at random until the agent's room leads to every other."""
    start_i, start_j = state[X] // (side - 1), state[Y] // (side - 1)
    while not all_reachable(rooms, start_i, start_j):
        i = rand_int(rng, 0, rooms.shape[1])
        j = rand_int(rng, 0, rooms.shape[0])
        wall = rand_int(rng, 0, 4)
        if not has_neighbor(rooms, i, j, wall) or rooms[j, i, wall]:
            continue
        if rooms[j, i, IS_LOCKED] or rooms[j + STEP_Y[wall], i + STEP_X[wall], IS_LOCKED]:
            continue
        add_door(grid, rooms, rng, side, i, j, wall, COLORS_BY_NAME[rand_int(rng, 0, 6)], 0)
