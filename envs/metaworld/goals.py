"""The benchmark's 50 goals a task for a seed, and which of them an environment plays in an episode."""

from __future__ import annotations

from functools import lru_cache, partial
from importlib.metadata import version
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from mtrl.envs.metaworld import store
from mtrl.envs.metaworld.memory import give_back
from mtrl.envs.progress import progress
from mtrl.envs.seeding import episode_seed
from mtrl.envs.specs import Suite

NUM_GOALS = 50
Goals = tuple[NDArray[np.float64], ...]


def benchmark_goals(suite: Suite, seed: int) -> Goals:
    """The goals that ``metaworld.MT1``, ``MT10``, ``MT25`` or ``MT50`` has for ``seed``.

    Args:
        suite: of the Meta-World family.
        seed: the benchmark's seed, 0 to 2**32 - 1.

    Returns:
        One read-only float64 array [50, k] a task, the vectors that metaworld calls ``rand_vec``; k is 3 or 6. Goals of
        one task differ between suites, since the benchmark draws all tasks from one stream.
    """
    return _goals(tuple(task.env_id for task in suite.tasks), seed)


@lru_cache(maxsize=16)
def _goals(tasks: tuple[str, ...], seed: int) -> Goals:
    origin = [version(package) for package in ("metaworld", "mujoco", "numpy")]
    name = f"goals-{store.digest(*origin, *tasks, seed)}"
    kept = store.load(name)
    if kept is None:
        kept = dict(zip(tasks, _draw(tasks, seed)))
        store.save(name, kept)
    for array in kept.values():
        array.setflags(write=False)
    return tuple(kept[task] for task in tasks)


def _draw(tasks: tuple[str, ...], seed: int) -> Goals:
    # Not at the top: metaworld takes a second to import, and goals are usually kept from an earlier start.
    from mtrl.envs.metaworld.simulators import build

    # The benchmark seeds numpy's global generator and resets every environment 50 times. A private generator of the
    # same kind gives the same numbers, and the tasks reject vectors by the vectors alone, so poses suffice in
    # place of physics, which makes this three times as fast.
    stream = np.random.RandomState(seed)
    goals = []
    for task in progress(
        tasks, desc="Drawing Meta-World's goals (kept for next time)", unit="task", delay=1
    ):
        env = build(task, "v2")
        env.do_simulation = partial(_poses_only, env)
        env._reset_hand = partial(env._reset_hand, 1)  # of 50 equal steps
        env.np_random = stream
        env.seeded_rand_vec = True
        env._freeze_rand_vec = False
        vectors = []
        for _ in range(NUM_GOALS):
            env.reset()
            vectors.append(env._last_rand_vec.copy())
        env.close()
        del env
        give_back()
        goals.append(np.stack(vectors))
    return tuple(goals)


def _poses_only(env: Any, ctrl: object, n_frames: int) -> None:
    """Stands in for ``do_simulation`` while goals are drawn."""
    mujoco.mj_kinematics(env.model, env.data)


class GoalSchedule:
    """Which of a task's 50 goals each environment plays, episode by episode.

    A goal is a function of (seed, boundary, task, env, episode) in mode ``random`` and of (env, episode) in mode
    ``cycle``; the counters here are the whole state.

    Attributes:
        episode: int64 [num_envs], the episode being played, counted from the boundary; -1 before the first.
        goal: int64 [num_envs], the goal being played.
    """

    def __init__(self, num_tasks: int, envs_per_task: int, mode: str, seed: int) -> None:
        self.num_envs = num_tasks * envs_per_task
        self.envs_per_task = envs_per_task
        self.mode = mode
        self.restart(seed, boundary=0)

    def restart(self, seed: int, boundary: int) -> None:
        """Begins the streams of (seed, boundary) anew."""
        self.seed = seed
        self.boundary = boundary
        self.set_episode(np.full(self.num_envs, -1, np.int64))

    def set_episode(self, episode: NDArray[np.int64]) -> None:
        """Goes to the given episodes of the present streams."""
        self.episode = episode.astype(np.int64)
        self.goal = np.array([self._goal(index) for index in range(self.num_envs)], np.int64)

    def advance(self, which: NDArray[np.bool_]) -> None:
        """Moves the marked environments [num_envs] to their next episode."""
        for index in np.flatnonzero(which).tolist():
            self.episode[index] += 1
            self.goal[index] = self._goal(index)

    def _goal(self, index: int) -> int:
        task, env = divmod(index, self.envs_per_task)
        episode = int(self.episode[index])
        if self.mode == "cycle":
            return (env + max(episode, 0) * self.envs_per_task) % NUM_GOALS
        return episode_seed(self.seed, self.boundary, task, env, max(episode, 0)) % NUM_GOALS
