"""Fixed pools of training levels, and evaluation levels outside of them, told apart by content.

Small tasks have few levels: of any fifty LavaGapS7 has about fourteen, so level seeds that training never used mostly
give levels that it has seen. A suite with a pool measures what a policy does on levels that it has not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from mtrl.envs.minigrid.batch import START, run_range
from mtrl.envs.minigrid.cells import (
    BORDER,
    HEIGHT,
    STATE_SLOTS,
    WALL,
    WIDTH,
    appearance,
    lookthrough,
    visibility,
)
from mtrl.envs.minigrid.layout import ObsLayout
from mtrl.envs.minigrid.rng import RNG_WORDS, TRAINING_SEEDS, level_seed
from mtrl.envs.minigrid.streams import Levels, stream_key
from mtrl.envs.minigrid.tasks import GridTask

CANDIDATES = 2_000
"""Level seeds that are tried for each task. A level that none of them generates is never played."""
_CHUNK = 500
_POOL, _EVALUATION = 1, 2  # names of streams


def training_levels(tasks: Sequence[GridTask], size: int, seed: int) -> Levels:
    """The pool of each task: ``size`` different levels, or half of those that it has where they are fewer than twice
    as many."""
    return Levels.of(
        [list(_pool(task, place, size, seed).values()) for place, task in enumerate(tasks)]
    )


def evaluation_levels(
    tasks: Sequence[GridTask], size: int, seed: int, evaluation_seed: int
) -> Levels:
    """Different levels of each task that are not in the pool of ``seed``; a task with a single level keeps that one.

    Args:
        size: of the pool; as many levels for evaluation are found at most.
        evaluation_seed: names the stream that they are drawn from.
    """
    chosen = []
    for place, task in enumerate(tasks):
        pool = _pool(task, place, size, seed)
        found: dict[bytes, int] = {}
        for level, content in _candidates(
            task, stream_key(evaluation_seed, place, _EVALUATION), TRAINING_SEEDS
        ):
            if content not in pool:
                found.setdefault(content, level)
            if len(found) == size:
                break
        chosen.append(list((found or pool).values()))
    return Levels.of(chosen)


@lru_cache(maxsize=256)
def _pool(task: GridTask, place: int, size: int, seed: int) -> dict[bytes, int]:
    """Level seeds of a task's pool by content."""
    found: dict[bytes, int] = {}
    for level, content in _candidates(task, stream_key(seed, place, _POOL), 0):
        found.setdefault(content, level)
        if len(found) == 2 * size:
            break
    keep = min(size, (len(found) + 1) // 2)
    return dict(list(found.items())[:keep])


def _candidates(task: GridTask, key: np.uint64, first: int) -> Iterator[tuple[int, bytes]]:
    """Level seeds of a stream and what each gives."""
    for begin in range(0, CANDIDATES, _CHUNK):
        seeds = [level_seed(key, place, first) for place in range(begin, begin + _CHUNK)]
        yield from zip(seeds, contents(task, seeds))


def contents(task: GridTask, seeds: Sequence[int]) -> list[bytes]:
    """The first moment of levels: the grid, the agent and the mission."""
    count, row = len(seeds), task.row()[None]
    layout = ObsLayout(task.words)
    shape = (count, row[0, HEIGHT] + 2 * BORDER, row[0, WIDTH] + 2 * BORDER)
    grids = np.full(shape, WALL, np.uint8)
    states = np.zeros((count, STATE_SLOTS), np.int64)
    missions = np.zeros((count, layout.mission_words), np.uint8)
    obs = np.empty((count, layout.num_bytes), np.uint8)
    levels = Levels.of([list(seeds)])
    run_range(
        0, count, np.full(count, START, np.int64), np.zeros(count, np.int64), row,
        appearance(), lookthrough(), visibility(),
        np.zeros(count, np.uint64), np.zeros(count, np.int64), np.arange(count, dtype=np.int64), 1, 0,
        levels.seeds, levels.sizes, True,
        grids, states, np.zeros((count, RNG_WORDS), np.uint64), missions,
        obs, np.empty_like(obs), np.empty(count), np.empty(count, np.bool_), np.empty(count, np.bool_),
    )  # fmt: skip
    return [
        grids[i].tobytes() + states[i].tobytes() + missions[i].tobytes() for i in range(count)
    ]
