"""With which seed each environment is reset in each episode: stateless streams of seeds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mtrl.envs.seeding import episode_seed

EVALUATION_SEEDS = 2**30
"""Lowest seed of evaluation; those of training lie below."""


class EpisodeStreams:
    """The seed of an episode is a pure function of (seed, boundary, task, env, episode).

    Training (``goals="random"``): every environment has a stream of its own.
    Evaluation (``goals="cycle"``): every task has one list of seeds, the same for every boundary; environment e of a
    task plays entries e, e + envs_per_task, …, so the first n episodes of a task are the same whatever
    ``envs_per_task`` is.

    Attributes:
        episode: int64 ``[num_envs]``, the episode being played, -1 before the first.
    """

    def __init__(self, num_tasks: int, envs_per_task: int, goals: str, seed: int) -> None:
        self.envs_per_task, self.cycle = envs_per_task, goals == "cycle"
        self.episode: NDArray[np.int64] = np.full(num_tasks * envs_per_task, -1, np.int64)
        self.restart(seed, boundary=0)

    def restart(self, seed: int, boundary: int) -> None:
        """Begin the streams of (seed, boundary) anew, before their first episode."""
        self.seed, self.boundary = seed, boundary
        self.episode[:] = -1

    def set_episode(self, episode: NDArray[np.int64]) -> None:
        """Go to the given episodes of the present streams."""
        self.episode[:] = episode

    def episode_seed(self, index: int) -> int:
        """Seed of the episode that an environment is playing."""
        task, env = divmod(index, self.envs_per_task)
        episode = max(int(self.episode[index]), 0)
        if not self.cycle:
            return episode_seed(self.seed, self.boundary, task, env, episode) >> 2
        place = env + self.envs_per_task * episode
        return EVALUATION_SEEDS + (episode_seed(self.seed, 0, task, 0, place) >> 2)
