"""From a seed to a level: the grid, the first state and the generator as minigrid's ``reset(seed=...)`` leaves them."""

from __future__ import annotations

from mtrl.envs.compiled import kernel
from mtrl.envs.minigrid import families as f
from mtrl.envs.minigrid import levels_babyai as babyai
from mtrl.envs.minigrid import levels_plain as plain
from mtrl.envs.minigrid import levels_rooms as rooms
from mtrl.envs.minigrid.cells import EMPTY, FAMILY, X, Y
from mtrl.envs.minigrid.grid import Grid, Rng, State
from mtrl.envs.minigrid.rng import seed_rng


@kernel
def _generate_plain(grid: Grid, state: State, rng: Rng, task: State) -> None:
    family = task[FAMILY]
    if family == f.EMPTY_ROOM:
        plain.empty(grid, state, rng, task)
    elif family == f.DIST_SHIFT:
        plain.dist_shift(grid, state, rng, task)
    elif family == f.LAVA_GAP:
        plain.lava_gap(grid, state, rng, task)
    elif family == f.CROSSING:
        plain.crossing(grid, state, rng, task)
    elif family == f.FOUR_ROOMS:
        plain.four_rooms(grid, state, rng, task)
    elif family == f.DOOR_KEY:
        plain.door_key(grid, state, rng, task)
    elif family == f.RED_BLUE_DOORS:
        plain.red_blue_doors(grid, state, rng, task)
    elif family == f.MEMORY:
        plain.memory(grid, state, rng, task)
    elif family == f.DYNAMIC_OBSTACLES:
        plain.dynamic_obstacles(grid, state, rng, task)
    elif family == f.FETCH:
        plain.fetch(grid, state, rng, task)
    elif family == f.GO_TO_DOOR:
        plain.go_to_door(grid, state, rng, task)
    elif family == f.GO_TO_OBJECT:
        plain.go_to_object(grid, state, rng, task)
    else:
        plain.put_near(grid, state, rng, task)


@kernel
def _generate_rooms(grid: Grid, state: State, rng: Rng, task: State) -> None:
    family = task[FAMILY]
    if family == f.KEY_CORRIDOR:
        rooms.key_corridor(grid, state, rng, task)
    elif family == f.UNLOCK:
        rooms.unlock(grid, state, rng, task)
    elif family == f.OBSTRUCTED_MAZE:
        rooms.obstructed_maze(grid, state, rng, task)
    else:
        rooms.multi_room(grid, state, rng, task)


@kernel
def _generate_babyai(grid: Grid, state: State, rng: Rng, task: State) -> bool:
    family = task[FAMILY]
    if family == f.BABYAI_GO_TO_LOCAL:
        return babyai.go_to_local(grid, state, rng, task)
    if family == f.BABYAI_PICKUP_DISTRACTOR:
        return babyai.pickup_distractor(grid, state, rng, task)
    if family == f.BABYAI_PICKUP_BY_PLACE:
        return babyai.pickup_by_place(grid, state, rng, task)
    if family == f.BABYAI_PUT_NEXT_LOCAL:
        return babyai.put_next_local(grid, state, rng, task)
    return babyai.doors(grid, state, rng, task)


@kernel
def start_level(grid: Grid, state: State, rng: Rng, task: State, seed: int) -> None:
    """Overwrite ``grid`` (without its border), ``state`` and ``rng`` with the start of level ``seed``."""
    seed_rng(rng, seed)
    grid[:, :] = EMPTY
    state[:] = 0
    state[X] = state[Y] = -1
    if task[FAMILY] < f.KEY_CORRIDOR:
        _generate_plain(grid, state, rng, task)
    elif task[FAMILY] < f.BABYAI_GO_TO_LOCAL:
        _generate_rooms(grid, state, rng, task)
    else:
        while not _generate_babyai(grid, state, rng, task):
            pass
