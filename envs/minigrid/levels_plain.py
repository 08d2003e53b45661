"""Levels of the tasks in one space: the layouts that minigrid draws for a seed, draw for draw."""

from __future__ import annotations

import numpy as np

from mtrl.envs.compiled import kernel
from mtrl.envs.minigrid.cells import (
    ARTICLE_2,
    BALL,
    BLUE,
    CLOSED,
    COLOR_2,
    COUNT,
    DIRECTION,
    EMPTY,
    FLAG,
    GOAL,
    GREEN,
    KEY,
    LAVA,
    LOCKED,
    OBSTACLES,
    OTHER_X,
    OTHER_Y,
    RED,
    SIZE,
    TARGET_X,
    TARGET_Y,
    TYPE_2,
    VARIANT,
    WALL,
    YELLOW,
    X,
    Y,
)
from mtrl.envs.minigrid.grid import (
    Grid,
    Rng,
    State,
    place,
    place_agent,
    place_agent_anywhere,
    rand_color,
    rand_type,
    wall_rect,
)
from mtrl.envs.minigrid.missions import GET, GO_TO, PUT_NEAR, describe
from mtrl.envs.minigrid.rng import rand_int, shuffle

Task = State


@kernel
def _start(state: State, x: int, y: int) -> None:
    state[X], state[Y], state[DIRECTION] = x, y, 0


@kernel
def _outline(grid: Grid) -> None:
    wall_rect(grid, 0, 0, grid.shape[1], grid.shape[0])


@kernel
def empty(grid: Grid, state: State, rng: Rng, task: Task) -> None:
    _outline(grid)
    grid[-2, -2] = GOAL
    if task[VARIANT] == 0:
        _start(state, 1, 1)
    else:
        place_agent_anywhere(grid, state, rng)


@kernel
def dist_shift(grid: Grid, state: State, rng: Rng, task: Task) -> None:
    _outline(grid)
    grid[1, -2] = GOAL
    grid[1, 3:-3] = LAVA
    grid[task[VARIANT], 3:-3] = LAVA
    _start(state, 1, 1)


@kernel
def lava_gap(grid: Grid, state: State, rng: Rng, task: Task) -> None:
    size = task[SIZE]
    _outline(grid)
    _start(state, 1, 1)
    grid[-2, -2] = GOAL
    x = rand_int(rng, 2, size - 2)
    y = rand_int(rng, 1, size - 1)
    grid[1:-1, x] = LAVA
    grid[y, x] = EMPTY


@kernel
def crossing(grid: Grid, state: State, rng: Rng, task: Task) -> None:
    """Rivers of lava (variant 0) or walls (variant 1) on even rows and columns, with one opening each on a path."""
    size, barrier = task[SIZE], WALL if task[VARIANT] else LAVA
    _outline(grid)
    _start(state, 1, 1)
    grid[-2, -2] = GOAL
    half = (size - 3) // 2
    rivers = np.arange(2 * half)
    shuffle(rng, rivers, 2 * half)
    chosen = np.sort(rivers[: task[COUNT]])
    columns = chosen[chosen < half] * 2 + 2
    rows = (chosen[chosen >= half] - half) * 2 + 2
    for y in rows:
        grid[y, 1:-1] = barrier
    for x in columns:
        grid[1:-1, x] = barrier
    # 1 crosses a vertical river, 0 a horizontal one.
    path = np.zeros(len(chosen), np.int64)
    path[: len(columns)] = 1
    shuffle(rng, path, len(path))
    x_limits = np.zeros(len(columns) + 2, np.int64)
    y_limits = np.zeros(len(rows) + 2, np.int64)
    x_limits[1:-1], y_limits[1:-1] = columns, rows
    x_limits[-1] = y_limits[-1] = size - 1
    i, j = 0, 0
    for across in path:
        if across:
            y = rand_int(rng, y_limits[j] + 1, y_limits[j + 1])
            grid[y, x_limits[i + 1]] = EMPTY
            i += 1
        else:
            x = rand_int(rng, x_limits[i] + 1, x_limits[i + 1])
            grid[y_limits[j + 1], x] = EMPTY
            j += 1


@kernel
def four_rooms(grid: Grid, state: State, rng: Rng, task: Task) -> None:
    _outline(grid)
    half = grid.shape[0] // 2
    for top in (0, half):
        for left in (0, half):
            if left == 0:
                grid[top : top + half, half] = WALL
                grid[rand_int(rng, top + 1, top + half), half] = EMPTY
            if top == 0:
                grid[half, left : left + half] = WALL
                grid[half, rand_int(rng, left + 1, left + half)] = EMPTY
    place_agent_anywhere(grid, state, rng)
    place(grid, state, rng, GOAL, 0, 0, grid.shape[1], grid.shape[0], 0)


@kernel
def door_key(grid: Grid, state: State, rng: Rng, task: Task) -> None:
    size = task[SIZE]
    _outline(grid)
    grid[-2, -2] = GOAL
    split = rand_int(rng, 2, size - 2)
    grid[:, split] = WALL
    place_agent(grid, state, rng, 0, 0, split, size)
    grid[rand_int(rng, 1, size - 2), split] = LOCKED | YELLOW << 4
    place(grid, state, rng, KEY | YELLOW << 4, 0, 0, split, size, 0)


@kernel
def red_blue_doors(grid: Grid, state: State, rng: Rng, task: Task) -> None:
    """Target: the red door. Other: the blue one."""
    size = task[SIZE]
    left, right = size // 2, size // 2 + size - 1
    _outline(grid)
    wall_rect(grid, left, 0, size, size)
    place_agent(grid, state, rng, left, 0, size, size)
    state[TARGET_X], state[TARGET_Y] = left, rand_int(rng, 1, size - 1)
    state[OTHER_X], state[OTHER_Y] = right, rand_int(rng, 1, size - 1)
    grid[state[TARGET_Y], left] = CLOSED | RED << 4
    grid[state[OTHER_Y], right] = CLOSED | BLUE << 4


@kernel
def memory(grid: Grid, state: State, rng: Rng, task: Task) -> None:
    """Target: the place beside the matching object. Other: the place beside the wrong one."""
    size = task[SIZE]
    middle = size // 2
    _outline(grid)
    end = rand_int(rng, 4, size - 2) if task[VARIANT] else size - 3
    for side in (-1, 1):
        grid[middle + 2 * side, 1:5] = WALL
        grid[middle + side, 4] = WALL
        grid[middle + side, 5:end] = WALL
    grid[:middle, end] = WALL
    grid[middle + 1 :, end] = WALL
    grid[:, end + 2] = WALL
    _start(state, rand_int(rng, 1, end + 1), middle)
    shown = KEY + rand_int(rng, 0, 2)
    upper = BALL - rand_int(rng, 0, 2)
    grid[middle - 1, 1] = shown | GREEN << 4
    grid[middle - 2, end + 1] = upper | GREEN << 4
    grid[middle + 2, end + 1] = (KEY + BALL - upper) | GREEN << 4
    right = -1 if shown == upper else 1
    state[TARGET_X] = state[OTHER_X] = end + 1
    state[TARGET_Y], state[OTHER_Y] = middle + right, middle - right


@kernel
def dynamic_obstacles(grid: Grid, state: State, rng: Rng, task: Task) -> None:
    empty(grid, state, rng, task)
    for i in range(task[COUNT]):
        x, y = place(grid, state, rng, BALL | BLUE << 4, 0, 0, grid.shape[1], grid.shape[0], 0)
        state[OBSTACLES + 2 * i], state[OBSTACLES + 2 * i + 1] = x, y


@kernel
def fetch(grid: Grid, state: State, rng: Rng, task: Task) -> None:
    _outline(grid)
    cells = np.zeros(task[COUNT], np.int64)
    for i in range(len(cells)):
        kind = KEY + rand_int(rng, 0, 2)
        cells[i] = kind | rand_color(rng) << 4
        place(grid, state, rng, cells[i], 0, 0, grid.shape[1], grid.shape[0], 0)
    place_agent_anywhere(grid, state, rng)
    target = cells[rand_int(rng, 0, len(cells))]
    describe(state, GET + rand_int(rng, 0, 5), 1, target >> 4, target & 15)
    for y in range(grid.shape[0]):
        for x in range(grid.shape[1]):
            if grid[y, x] == target:
                grid[y, x] |= FLAG


@kernel
def go_to_door(grid: Grid, state: State, rng: Rng, task: Task) -> None:
    """Target: the place of the door."""
    width = rand_int(rng, 5, task[SIZE] + 1)
    height = rand_int(rng, 5, task[SIZE] + 1)
    wall_rect(grid, 0, 0, width, height)
    xs, ys = np.array([0, 0, 0, width - 1]), np.array([0, height - 1, 0, 0])
    xs[0], xs[1] = rand_int(rng, 2, width - 2), rand_int(rng, 2, width - 2)
    ys[2], ys[3] = rand_int(rng, 2, height - 2), rand_int(rng, 2, height - 2)
    colors = np.full(4, -1)
    for i in range(4):
        color = rand_color(rng)
        while np.any(colors == color):
            color = rand_color(rng)
        colors[i] = color
        grid[ys[i], xs[i]] = CLOSED | color << 4
    place_agent(grid, state, rng, 0, 0, width, height)
    target = rand_int(rng, 0, 4)
    state[TARGET_X], state[TARGET_Y] = xs[target], ys[target]
    describe(state, GO_TO, 0, colors[target], 4)


@kernel
def _scatter(grid: Grid, state: State, rng: Rng, task: Task) -> tuple[State, State, State]:
    """Distinct keys, balls and boxes; for variant 1 not beside one another. Returns their cells, x and y."""
    cells, xs, ys = (
        np.zeros(task[COUNT], np.int64),
        np.full(task[COUNT], -9),
        np.full(task[COUNT], -9),
    )
    for i in range(len(cells)):
        while cells[i] == 0:
            kind = rand_type(rng)
            cell = kind | rand_color(rng) << 4
            if not np.any(cells == cell):
                cells[i] = cell
        while xs[i] < 0:
            x, y = place(grid, state, rng, 0, 0, 0, grid.shape[1], grid.shape[0], 0)
            if task[VARIANT] == 0 or not np.any((np.abs(xs - x) <= 1) & (np.abs(ys - y) <= 1)):
                xs[i], ys[i] = x, y
                grid[y, x] = cells[i]
    place_agent_anywhere(grid, state, rng)
    return cells, xs, ys


@kernel
def go_to_object(grid: Grid, state: State, rng: Rng, task: Task) -> None:
    """Target: the place of the object."""
    _outline(grid)
    cells, xs, ys = _scatter(grid, state, rng, task)
    target = rand_int(rng, 0, len(cells))
    state[TARGET_X], state[TARGET_Y] = xs[target], ys[target]
    describe(state, GO_TO, 0, cells[target] >> 4, cells[target] & 15)


@kernel
def put_near(grid: Grid, state: State, rng: Rng, task: Task) -> None:
    """Flagged: the object to move. Target: the place of the one to put it near."""
    _outline(grid)
    cells, xs, ys = _scatter(grid, state, rng, task)
    moved = rand_int(rng, 0, len(cells))
    target = rand_int(rng, 0, len(cells))
    while target == moved:
        target = rand_int(rng, 0, len(cells))
    grid[ys[moved], xs[moved]] |= FLAG
    state[TARGET_X], state[TARGET_Y] = xs[target], ys[target]
    describe(state, PUT_NEAR, 0, cells[moved] >> 4, cells[moved] & 15)
    state[ARTICLE_2], state[COLOR_2], state[TYPE_2] = 0, cells[target] >> 4, cells[target] & 15
