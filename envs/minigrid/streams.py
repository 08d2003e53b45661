"""Which level each environment plays in each episode: stateless streams of level seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mtrl.envs.minigrid.rng import TRAINING_SEEDS, level_seed


def _key(seed: int, *place: int) -> np.uint64:
    return np.uint64(np.random.SeedSequence(seed, spawn_key=place).generate_state(1, np.uint64)[0])


class LevelStreams:
    """The level of an episode is a pure function of (seed, boundary, task, env, episode).

    Training (``goals="random"``): every environment has a stream of its own, without end; seeds lie in [0, 2**30).
    Evaluation (``goals="cycle"``): every task has one list of levels, the same for every boundary, with seeds in
    [2**30, 2**31); environment e of a task plays levels e, e + envs_per_task, ..., so the first n levels of a task are
    the same whatever ``envs_per_task`` is.

    Attributes:
        key: uint64 ``[num_envs]``, names the stream of each environment.
        episode: int64 ``[num_envs]``, the episode being played, -1 before the first.
        start: int64 ``[num_envs]``, place of an environment's first level in its stream.
        stride: distance between an environment's levels in its stream.
        first: lowest level seed.
    """

    def __init__(self, num_tasks: int, envs_per_task: int, goals: str, seed: int) -> None:
        self.num_tasks, self.envs_per_task = num_tasks, envs_per_task
        self.cycle = goals == "cycle"
        self.first = TRAINING_SEEDS if self.cycle else 0
        self.stride = envs_per_task if self.cycle else 1
        env = np.tile(np.arange(envs_per_task, dtype=np.int64), num_tasks)
        self.start = env if self.cycle else np.zeros_like(env)
        self.restart(seed, boundary=0)

    def restart(self, seed: int, boundary: int) -> None:
        """Begin the streams of (seed, boundary) anew, before their first level."""
        self.seed, self.boundary = seed, boundary
        tasks, envs = range(self.num_tasks), range(self.envs_per_task)
        if self.cycle:
            keys = [key for task in tasks for key in [_key(seed, task)] * self.envs_per_task]
        else:
            keys = [_key(seed, boundary, task, env) for task in tasks for env in envs]
        self.key: NDArray[np.uint64] = np.array(keys, np.uint64)
        self.episode = np.full(len(keys), -1, np.int64)

    def set_episode(self, episode: NDArray[np.int64]) -> None:
        """Go to the given episodes of the present streams."""
        self.episode[:] = episode

    def seeds(self, which: Sequence[int]) -> list[int]:
        """Level seeds of the episodes that the environments ``which`` are playing."""
        return [
            int(
                level_seed(
                    self.key[i], self.start[i] + self.stride * max(self.episode[i], 0), self.first
                )
            )
            for i in which
        ]
