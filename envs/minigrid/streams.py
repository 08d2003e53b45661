"""Which level each environment plays in each episode: stateless streams of level seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mtrl.envs.minigrid.rng import TRAINING_SEEDS, chosen_level


def stream_key(seed: int, *place: int) -> np.uint64:
    """Name of the stream at ``place``."""
    return np.uint64(
        np.random.SeedSequence(seed, spawn_key=place).generate_state(1, np.uint64)[0]
    )


@dataclass(frozen=True, eq=False)
class Levels:
    """Lists of level seeds to choose from, one a task.

    Attributes:
        seeds: int64 ``[num_tasks, longest]``, filled up with zeros.
        sizes: int64 ``[num_tasks]``, length of each list; 0 where levels are not chosen from a list.
    """

    seeds: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, lists: Sequence[Sequence[int]]) -> Self:
        """The given lists."""
        seeds = np.zeros((len(lists), max(1, *map(len, lists))), np.int64)
        for row, found in zip(seeds, lists):
            row[: len(found)] = found
        return cls(seeds, np.array([len(found) for found in lists], np.int64))


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
        levels: where a task has a list of levels, training draws from it and evaluation goes through it in order.
    """

    def __init__(
        self,
        num_tasks: int,
        envs_per_task: int,
        goals: str,
        seed: int,
        levels_of: Callable[[int], Levels] | None = None,
    ) -> None:
        """Begin the streams of (seed, 0).

        Args:
            levels_of: gives the lists of levels of a seed; none where levels are not chosen from lists.
        """
        self.num_tasks, self.envs_per_task = num_tasks, envs_per_task
        self.cycle = goals == "cycle"
        self.first = TRAINING_SEEDS if self.cycle else 0
        self.stride = envs_per_task if self.cycle else 1
        env = np.tile(np.arange(envs_per_task, dtype=np.int64), num_tasks)
        self.start = env if self.cycle else np.zeros_like(env)
        self.levels = Levels.of([[]] * num_tasks)
        self._levels_of, self._chosen_for = levels_of, -1
        self.restart(seed, boundary=0)

    def restart(self, seed: int, boundary: int) -> None:
        """Begin the streams of (seed, boundary) anew, before their first level."""
        self.seed, self.boundary = seed, boundary
        if self._levels_of is not None and seed != self._chosen_for:
            self.levels, self._chosen_for = self._levels_of(seed), seed
        tasks, envs = range(self.num_tasks), range(self.envs_per_task)
        if self.cycle:
            keys = [
                key for task in tasks for key in [stream_key(seed, task)] * self.envs_per_task
            ]
        else:
            keys = [stream_key(seed, boundary, task, env) for task in tasks for env in envs]
        self.key: NDArray[np.uint64] = np.array(keys, np.uint64)
        self.episode = np.full(len(keys), -1, np.int64)

    def set_episode(self, episode: NDArray[np.int64]) -> None:
        """Go to the given episodes of the present streams."""
        self.episode[:] = episode

    def seeds(self, which: Sequence[int]) -> list[int]:
        """Level seeds of the episodes that the environments ``which`` are playing."""
        levels, found = self.levels, []
        for i in which:
            task, index = (
                i // self.envs_per_task,
                self.start[i] + self.stride * max(self.episode[i], 0),
            )
            own = (levels.seeds[task], levels.sizes[task], self.cycle)
            found.append(int(chosen_level(self.key[i], index, self.first, *own)))
        return found
