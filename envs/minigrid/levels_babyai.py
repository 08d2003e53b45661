"""Levels of the BabyAI tasks, draw for draw as minigrid makes them.

Every generator returns False where minigrid rejects its draw and begins again with the stream where it stands.
"""

from __future__ import annotations

import numpy as np

from mtrl.envs.compiled import kernel
from mtrl.envs.minigrid.cells import (
    ARTICLE_2,
    BALL,
    BLUE,
    BOX,
    CLOSED,
    COLOR_2,
    COLORS_BY_NAME,
    COUNT,
    DIRECTION,
    DOOR,
    EMPTY,
    FLAG,
    GREY,
    KEY,
    KIND,
    LOCKED,
    OTHER,
    PLACE,
    PLAIN,
    RED,
    SIZE,
    STEP_X,
    STEP_Y,
    TYPE_2,
    VARIANT,
    WALL_KIND,
    X,
    Y,
)
from mtrl.envs.minigrid.grid import Grid, Rng, State, rand_color, rand_type
from mtrl.envs.minigrid.levels_plain import Task
from mtrl.envs.minigrid.missions import GO_TO, OPEN, PICK_UP, PUT_NEXT_TO, describe
from mtrl.envs.minigrid.rng import next64, rand_int
from mtrl.envs.minigrid.rooms import (
    RIGHT,
    add_door,
    build_rooms,
    place_agent_in_room,
    place_in_room,
)


@kernel
def add_distractors(
    grid: Grid, state: State, rng: Rng, side: int, count: int, unique: bool
) -> tuple[State, State, State]:
    """Random objects in the one room; returns their cells, x and y."""
    cells, xs, ys = (
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
    )
    placed = 0
    while placed < count:
        color = rand_color(rng)
        cell = rand_type(rng) | color << 4
        if unique and np.any(cells[:placed] == cell):
            continue
        cells[placed] = cell
        xs[placed], ys[placed] = place_in_room(grid, state, rng, side, 0, 0, cell)
        placed += 1
    return cells, xs, ys


@kernel
def objects_reachable(grid: Grid, state: State) -> bool:
    """Whether every object can be walked up to without moving another one; for one room without doors."""
    reached = np.zeros(grid.shape, np.bool_)
    reached[state[Y], state[X]] = True
    grown = True
    while grown:
        grown = False
        for y in range(1, grid.shape[0] - 1):
            for x in range(1, grid.shape[1] - 1):
                if reached[y, x]:
                    continue
                for k in range(4):
                    beside_x, beside_y = x + STEP_X[k], y + STEP_Y[k]
                    if reached[beside_y, beside_x] and grid[beside_y, beside_x] == EMPTY:
                        reached[y, x] = grown = True
    for y in range(1, grid.shape[0] - 1):
        for x in range(1, grid.shape[1] - 1):
            if grid[y, x] != EMPTY and not reached[y, x]:
                return False
    return True


@kernel
def matches(cell: int, color: int, kind: int) -> bool:
    """Whether a cell answers a description: color -1 any, kind 0 any object; walls are grey objects too."""
    shown = cell & KIND
    if shown in (CLOSED, LOCKED):
        shown = DOOR
    return (
        cell & PLAIN != EMPTY
        and (color < 0 or (cell & PLAIN) >> 4 == color)
        and (kind == 0 or shown == kind)
    )


@kernel
def _on_side(state: State, x: int, y: int, side: int) -> bool:
    """Whether (x, y) lies left (0), right (1), in front (2) or behind (3) of the agent; -1 is anywhere."""
    if side < 0:
        return True
    ahead_x, ahead_y = STEP_X[state[DIRECTION]], STEP_Y[state[DIRECTION]]
    dx, dy = x - state[X], y - state[Y]
    ahead, right = dx * ahead_x + dy * ahead_y, dy * ahead_x - dx * ahead_y
    return (right < 0, right > 0, ahead > 0, ahead < 0)[side]


@kernel
def flag_matches(grid: Grid, state: State, color: int, kind: int, side: int) -> int:
    """Flag what a description fits and the agent could act on; returns how many cells it fits, walls included."""
    count = 0
    for y in range(grid.shape[0]):
        for x in range(grid.shape[1]):
            if matches(grid[y, x], color, kind) and _on_side(state, x, y, side):
                count += 1
                if grid[y, x] & KIND != WALL_KIND:
                    grid[y, x] |= FLAG
    return count


@kernel
def _ask(grid: Grid, state: State, prefix: int, color: int, kind: int, side: int) -> None:
    count = flag_matches(grid, state, color, kind, side)
    describe(state, prefix, 1 if count > 1 else 0, color, kind)
    state[PLACE] = side


@kernel
def go_to_local(grid: Grid, state: State, rng: Rng, task: Task) -> bool:
    """One room. Variant 0: go to a random object; 1: the red ball; 2: the same, all else grey; 3: one of two balls."""
    side, variant = task[SIZE], task[VARIANT]
    build_rooms(grid, state, rng, side, 1, 1)
    place_agent_in_room(grid, state, rng, side, 0, 0)
    if variant == 1 or variant == 2:
        place_in_room(grid, state, rng, side, 0, 0, BALL | RED << 4)
    cells, xs, ys = add_distractors(grid, state, rng, side, task[COUNT], False)
    if variant == 2:
        for k in range(len(cells)):
            grid[ys[k], xs[k]] = (cells[k] & KIND) | GREY << 4
    target = BALL | RED << 4
    if variant == 3:
        if np.any(cells == BALL | RED << 4) or np.any(cells == BALL | BLUE << 4):
            return False
        target = BALL | (BLUE if rand_int(rng, 0, 2) else RED) << 4
        place_in_room(grid, state, rng, side, 0, 0, target)
    if not objects_reachable(grid, state):
        return False
    if variant == 0:
        target = cells[rand_int(rng, 0, len(cells))]
    _ask(grid, state, GO_TO, target >> 4, target & KIND, -1)
    return True


@kernel
def pickup_distractor(grid: Grid, state: State, rng: Rng, task: Task) -> bool:
    """Five distinct objects in a room; pick one up by type, by color, or by both."""
    side = task[SIZE]
    build_rooms(grid, state, rng, side, 1, 1)
    cells, _, _ = add_distractors(grid, state, rng, side, task[COUNT], True)
    place_agent_in_room(grid, state, rng, side, 0, 0)
    target = cells[rand_int(rng, 0, len(cells))]
    by = rand_int(rng, 0, 3)
    _ask(
        grid,
        state,
        PICK_UP,
        -1 if by == 0 else target >> 4,
        0 if by == 1 else target & KIND,
        -1,
    )
    return True


@kernel
def pickup_by_place(grid: Grid, state: State, rng: Rng, task: Task) -> bool:
    """One room; pick up an object that may be described by where it lies from the agent's first pose."""
    side = task[SIZE]
    build_rooms(grid, state, rng, side, 1, 1)
    next64(rng)
    add_distractors(grid, state, rng, side, task[COUNT], False)
    place_agent_in_room(grid, state, rng, side, 0, 0)
    if not objects_reachable(grid, state):
        return False
    for _ in range(101):
        drawn = rand_int(rng, 0, 7)
        color = -1 if drawn == 0 else COLORS_BY_NAME[drawn - 1]
        kind = BOX - rand_int(rng, 0, 3)
        where = -1 if rand_int(rng, 0, 2) else rand_int(rng, 0, 4)
        for y in range(1, side - 1):
            for x in range(1, side - 1):
                if matches(grid[y, x], color, kind) and _on_side(state, x, y, where):
                    _ask(grid, state, PICK_UP, color, kind, where)
                    return True
    return False


@kernel
def put_next_local(grid: Grid, state: State, rng: Rng, task: Task) -> bool:
    """One room of distinct objects. Flagged: the one to move. Other: the one to put it next to."""
    side = task[SIZE]
    build_rooms(grid, state, rng, side, 1, 1)
    place_agent_in_room(grid, state, rng, side, 0, 0)
    cells, xs, ys = add_distractors(grid, state, rng, side, task[COUNT], True)
    if not objects_reachable(grid, state):
        return False
    moved = rand_int(rng, 0, len(cells))
    fixed = rand_int(rng, 0, len(cells) - 1)
    fixed += fixed >= moved
    if abs(xs[moved] - xs[fixed]) + abs(ys[moved] - ys[fixed]) == 1:
        return False
    state[OTHER] = cells[fixed]
    _ask(grid, state, PUT_NEXT_TO, cells[moved] >> 4, cells[moved] & KIND, -1)
    state[ARTICLE_2], state[COLOR_2], state[TYPE_2] = 0, cells[fixed] >> 4, cells[fixed] & KIND
    return True


@kernel
def doors(grid: Grid, state: State, rng: Rng, task: Task) -> bool:
    """Doors around the agent's room.

    Variant 0: go to one of four; 1: open the red one; 2: open one of four by color; 3: unlock the only one.
    """
    side, variant = task[SIZE], task[VARIANT]
    if variant == 1:
        rooms = build_rooms(grid, state, rng, side, 1, 2)
        add_door(grid, rooms, rng, side, 0, 0, RIGHT, RED, 0)
        place_agent_in_room(grid, state, rng, side, 0, 0)
        _ask(grid, state, OPEN, RED, DOOR, -1)
        return True
    rooms = build_rooms(grid, state, rng, side, 3, 3)
    colors = np.zeros(4, np.int64)
    if variant == 2:
        names = COLORS_BY_NAME.copy()
        for k in range(4):
            drawn = rand_int(rng, 0, 6 - k)
            colors[k] = names[drawn]
            names[drawn:5] = names[drawn + 1 :].copy()
    for k in range(1 if variant == 3 else 4):
        if variant == 2:
            add_door(grid, rooms, rng, side, 1, 1, k, colors[k], 0)
        else:
            colors[k], _, _ = add_door(
                grid, rooms, rng, side, 1, 1, -1, -1, 1 if variant == 3 else -1
            )
    if variant == 3:
        place_in_room(grid, state, rng, side, 1, 1, KEY | colors[0] << 4)
    place_agent_in_room(grid, state, rng, side, 1, 1)
    if variant == 0:
        _ask(grid, state, GO_TO, colors[rand_int(rng, 0, 4)], DOOR, -1)
    else:
        _ask(grid, state, OPEN, -1 if variant == 3 else colors[0], DOOR, -1)
    return True
