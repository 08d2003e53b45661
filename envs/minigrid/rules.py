"""One step of minigrid: the moves every task shares, and each rule's reward and end."""

from __future__ import annotations

from mtrl.envs.compiled import kernel
from mtrl.envs.minigrid import families as f
from mtrl.envs.minigrid.cells import (
    ACTIONS,
    BOX,
    CARRIED,
    CLOSED,
    CONTENTS,
    COUNT,
    DIRECTION,
    DOOR,
    EMPTY,
    FLAG,
    GOAL_KIND,
    HORIZON,
    KEY,
    KIND,
    LAVA_KIND,
    LOCKED,
    OBSTACLES,
    OTHER,
    OTHER_X,
    OTHER_Y,
    PLAIN,
    RULE,
    STEP_X,
    STEP_Y,
    STEPS,
    TARGET_X,
    TARGET_Y,
    X,
    Y,
)
from mtrl.envs.minigrid.grid import Grid, Rng, State
from mtrl.envs.minigrid.rng import rand_int

TURN_LEFT, TURN_RIGHT, FORWARD, PICK_UP, DROP, TOGGLE, DONE = range(7)
ACTION_NAMES = ("left", "right", "forward", "pickup", "drop", "toggle", "done")


@kernel
def _toggle(grid: Grid, state: State, x: int, y: int) -> None:
    """Open or close a door, unlock it with the key of its color, or replace a box by what it holds."""
    cell = grid[y, x]
    kind = cell & KIND
    if kind == DOOR:
        grid[y, x] = cell + (CLOSED - DOOR)
    elif kind == CLOSED:
        grid[y, x] = cell - (CLOSED - DOOR)
    elif kind == LOCKED:
        if state[CARRIED] & PLAIN == KEY | (cell & 0x70):
            grid[y, x] = cell - (LOCKED - DOOR)
    elif kind == BOX:
        grid[y, x] = state[CONTENTS] if state[CONTENTS] else EMPTY


@kernel
def _act(grid: Grid, state: State, action: int) -> int:
    """Carry out ``action``; returns the kind of the cell walked into (goal or lava), else 0."""
    x, y = state[X] + STEP_X[state[DIRECTION]], state[Y] + STEP_Y[state[DIRECTION]]
    front = grid[y, x]
    kind = front & KIND
    if action == TURN_LEFT:
        state[DIRECTION] = (state[DIRECTION] + 3) % 4
    elif action == TURN_RIGHT:
        state[DIRECTION] = (state[DIRECTION] + 1) % 4
    elif action == FORWARD:
        if kind in (EMPTY, DOOR, GOAL_KIND, LAVA_KIND):
            state[X], state[Y] = x, y
        if kind in (GOAL_KIND, LAVA_KIND):
            return kind
    elif action == PICK_UP:
        if KEY <= kind <= BOX and state[CARRIED] == 0:
            state[CARRIED] = front
            grid[y, x] = EMPTY
    elif action == DROP:
        if front == EMPTY and state[CARRIED] != 0:
            grid[y, x] = state[CARRIED]
            state[CARRIED] = 0
    elif action == TOGGLE:
        _toggle(grid, state, x, y)
    return 0


@kernel
def _move_obstacles(grid: Grid, state: State, rng: Rng, count: int) -> None:
    """Each ball tries up to 101 random cells around it and stays where it is if all are taken."""
    for i in range(count):
        old_x, old_y = state[OBSTACLES + 2 * i], state[OBSTACLES + 2 * i + 1]
        left, top = max(old_x - 1, 0), max(old_y - 1, 0)
        right, bottom = min(left + 3, grid.shape[1]), min(top + 3, grid.shape[0])
        for _ in range(101):
            x = rand_int(rng, left, right)
            y = rand_int(rng, top, bottom)
            if grid[y, x] == EMPTY and not (x == state[X] and y == state[Y]):
                grid[y, x] = grid[old_y, old_x]
                grid[old_y, old_x] = EMPTY
                state[OBSTACLES + 2 * i], state[OBSTACLES + 2 * i + 1] = x, y
                break


@kernel
def _beside(state: State, x: int, y: int) -> bool:
    return abs(state[X] - x) + abs(state[Y] - y) == 1


@kernel
def _other_around(grid: Grid, state: State, x: int, y: int) -> bool:
    """Whether the cell OTHER lies next to (x, y)."""
    found = False
    for k in range(4):
        found |= grid[y + STEP_Y[k], x + STEP_X[k]] & PLAIN == state[OTHER]
    return found


@kernel
def _judge_objects(
    grid: Grid, state: State, rule: int, action: int, held: int
) -> tuple[bool, bool]:
    """Success and end under the rules about objects; ``held`` is the cell carried before the step."""
    x, y = state[X] + STEP_X[state[DIRECTION]], state[Y] + STEP_Y[state[DIRECTION]]
    front = grid[y, x]
    dropped = action == DROP and held != 0 and state[CARRIED] == 0
    if rule == f.TAKE:
        return state[CARRIED] & FLAG != 0, state[CARRIED] != 0
    if rule == f.PICK_UP_FLAGGED:
        success = action == PICK_UP and held == 0 and state[CARRIED] & FLAG != 0
        return success, success
    if rule == f.OPEN_FLAGGED:
        success = action == TOGGLE and front & KIND == DOOR and front & FLAG != 0
        return success, success
    if rule == f.FACE_FLAGGED:
        # Levels never start with the agent facing such an object, so it cannot be moved before this ends the episode.
        success = front & FLAG != 0
        return success, success
    if rule == f.DROP_NEXT_TO:
        success = dropped and held & FLAG != 0 and _other_around(grid, state, x, y)
        return success, success
    # DROP_NEAR: the first drop and picking up a wrong object end the episode.
    near = abs(x - state[TARGET_X]) <= 1 and abs(y - state[TARGET_Y]) <= 1
    wrong = action == PICK_UP and state[CARRIED] != 0 and state[CARRIED] & FLAG == 0
    return dropped and near, wrong or (action == DROP and held != 0)


@kernel
def _judge_places(
    grid: Grid, state: State, rule: int, action: int, red_was_open: bool
) -> tuple[bool, bool]:
    """Success and end under the rules about places."""
    if rule == f.DONE_BESIDE:
        return action == DONE and _beside(
            state, state[TARGET_X], state[TARGET_Y]
        ), action >= TOGGLE
    if rule == f.MATCH:
        success = state[X] == state[TARGET_X] and state[Y] == state[TARGET_Y]
        return success, success or (state[X] == state[OTHER_X] and state[Y] == state[OTHER_Y])
    # TWO_DOORS
    blue_open = grid[state[OTHER_Y], state[OTHER_X]] & KIND == DOOR
    return blue_open and red_was_open, blue_open


@kernel
def step_level(
    grid: Grid, state: State, rng: Rng, task: State, action: int
) -> tuple[float, bool]:
    """Advance one level by one action; returns reward and whether the task ended it.

    An action that the task does not have turns left, as in minigrid's Dynamic-Obstacles.
    """
    rule = task[RULE]
    if action >= task[ACTIONS]:
        action = TURN_LEFT
    if rule == f.MATCH and action == PICK_UP:
        action = TOGGLE
    x, y = state[X] + STEP_X[state[DIRECTION]], state[Y] + STEP_Y[state[DIRECTION]]
    held, before = state[CARRIED], grid[y, x]
    red_was_open = rule == f.TWO_DOORS and grid[state[TARGET_Y], state[TARGET_X]] & KIND == DOOR
    if rule == f.AVOID:
        _move_obstacles(grid, state, rng, task[COUNT])
    state[STEPS] += 1
    entered = _act(grid, state, action)
    success, ended = entered == GOAL_KIND, entered != 0
    if rule == f.AVOID:
        if action == FORWARD and before != EMPTY and before & KIND != GOAL_KIND:
            return -1.0, True
    elif rule == f.DONE_BESIDE or rule == f.MATCH or rule == f.TWO_DOORS:
        success, ended = _judge_places(grid, state, rule, action, red_was_open)
    elif rule != f.REACH_GOAL:
        success, ended = _judge_objects(grid, state, rule, action, held)
    reward = 1 - 0.9 * (state[STEPS] / task[HORIZON]) if success else 0.0
    return reward, ended
