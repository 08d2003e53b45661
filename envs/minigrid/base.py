"""What both MiniGrid backends share: spaces, checks and level streams."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Discrete
from numpy.typing import NDArray

from mtrl.envs.errors import SuiteError
from mtrl.envs.frames import padded
from mtrl.envs.minigrid.batch import STAND_STILL, first_outside
from mtrl.envs.minigrid.layout import ObsLayout
from mtrl.envs.minigrid.pools import evaluation_levels, training_levels
from mtrl.envs.minigrid.streams import Levels, LevelStreams
from mtrl.envs.minigrid.tasks import TASKS, GridTask
from mtrl.envs.settings import EnvSettings
from mtrl.envs.specs import Suite
from mtrl.envs.vector import EngineVectorEnv, Info

OPTIONS = frozenset({"goals", "goal_seed", "render_mode"})


def grid_tasks(suite: Suite) -> tuple[GridTask, ...]:
    """The known tasks of a suite, in order.

    Raises:
        SuiteError: the suite has an id that is not known.
    """
    for task in suite.tasks:
        if task.env_id not in TASKS:
            raise SuiteError(
                f"Unknown MiniGrid id {task.env_id!r} in suite {suite.id!r}; mg1:... and babyai1:... are known."
            )
    return tuple(TASKS[task.env_id] for task in suite.tasks)


class MiniGridVectorEnv(EngineVectorEnv):
    """Base of the MiniGrid backends.

    Observations are uint8 rows of categories, cut up by ``obs_layout``. Actions are integers ``[num_envs]`` below the
    suite's largest number of actions; ``action_mask`` says which a task has. A masked action that is sent nevertheless
    turns the agent left: minigrid's only task with fewer actions, Dynamic-Obstacles, does so itself.

    Rewards are minigrid's own, ``1 - 0.9 * steps / horizon`` on success; episodes are truncated at each task's own
    horizon. ``success`` is termination with positive reward. A last step may both terminate and truncate.

    In evaluation (``goals="cycle"``) every ``reset`` and ``rebase`` starts again with the first levels.

    Attributes:
        obs_layout: parts and category counts of an observation.
        action_mask: bool ``[num_tasks, num_actions]``, False where the task lacks the action.
    """

    _streams: LevelStreams

    def __init__(self, suite: Suite, settings: EnvSettings) -> None:
        self.grid_tasks = grid_tasks(suite)
        if settings.one_hot:
            raise SuiteError(
                "MiniGrid observations are categories and take no one_hot; use task_id."
            )
        self.obs_layout = ObsLayout(max(task.words for task in self.grid_tasks))
        actions = np.array([task.actions for task in self.grid_tasks])
        self.action_mask: NDArray[np.bool_] = np.arange(actions.max()) < actions[:, None]
        seed = settings.seed
        if (
            settings.goals == "cycle"
            and settings.goal_seed is not None
            and not suite.level_pool
        ):
            seed = settings.goal_seed
        streams = LevelStreams(
            suite.num_tasks,
            settings.envs_per_task,
            settings.goals,
            seed,
            self._chooser(suite, settings),
        )
        spaces = self.obs_layout.space(), Discrete(int(actions.max()))
        super().__init__(suite, settings, streams, *spaces)
        self._held = np.zeros(self.num_envs, np.bool_)

    @property
    def level_seeds(self) -> NDArray[np.int64]:
        """Seed of the level that each environment is playing: stock's ``reset(seed=...)`` gives that level."""
        return np.array(self._streams.seeds(range(self.num_envs)), np.int64)

    def hold(self, rows: NDArray[np.bool_]) -> None:
        self._check_idle("hold")
        self._held = rows.copy()

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """One RGB frame per environment, drawn by minigrid; None without a render mode.

        All have the size of the largest: smaller ones stand in the middle of black, since recorders stack frames.
        ``frames`` has them in their own sizes.
        """
        return None if self.render_mode is None else padded(self.frames())

    def frames(self, only: Sequence[int] | None = None) -> tuple[NDArray[np.uint8], ...]:
        self._check_idle("render")
        wanted = range(self.num_envs) if only is None else only
        return tuple(self.frame(index) for index in wanted)

    @abstractmethod
    def frame(self, index: int) -> NDArray[np.uint8]:
        """RGB frame ``[height, width, 3]`` of one environment."""

    @abstractmethod
    def _start(self) -> NDArray[np.uint8]:
        """Start the levels of the present episodes everywhere; returns the observations."""

    @abstractmethod
    def _begin_step(self, actions: NDArray[np.int64]) -> None:
        """Begin to step; paused and held environments have the action ``STAND_STILL``."""

    @abstractmethod
    def _end_step(self) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray]:
        """Complete the step: obs, final_obs, reward, terminated, truncated."""

    def _chooser(self, suite: Suite, settings: EnvSettings) -> Callable[[int], Levels] | None:
        """Maps a seed to the levels of the suite's pool, in evaluation to levels outside; None without a pool.

        The pool follows ``goal_seed`` where it was given, else the seed.
        """
        size = suite.level_pool
        if size is None:
            return None

        def choose(seed: int) -> Levels:
            pool_seed = seed if settings.goal_seed is None else settings.goal_seed
            if settings.goals == "cycle":
                return evaluation_levels(self.grid_tasks, size, pool_seed, seed)
            return training_levels(self.grid_tasks, size, pool_seed)

        return choose

    def _start_episodes(self) -> NDArray[np.uint8]:
        if self._streams.cycle:
            self._streams.episode[:] = -1
        self._streams.episode += 1
        self._running = True
        return self._start()

    def _begin(self, actions: NDArray) -> None:
        still = self._held | self.paused[self.task_id]
        if still.any():
            actions = np.where(still, STAND_STILL, actions)
        self._held[:] = False
        self._begin_step(actions)

    def _finish(self) -> tuple[NDArray, NDArray, NDArray, NDArray, Info]:
        obs, final_obs, reward, terminated, truncated = self._end_step()
        info: Info = {"success": terminated & (reward > 0), "final_obs": final_obs}
        info["_final_obs"] = terminated | truncated
        return obs, reward, terminated, truncated, info

    def _checked(self, actions: NDArray) -> NDArray[np.int64]:
        array = np.asarray(actions)
        if array.shape != (self.num_envs,) or array.dtype.kind not in "iu":
            raise SuiteError(
                f"actions must be {self.num_envs} integers, not {array.dtype} of shape {array.shape}."
            )
        array = array.astype(np.int64)
        limit = self.action_mask.shape[1]
        row = first_outside(array, limit)
        if row >= 0:
            raise SuiteError(
                f"actions must lie in [0, {limit}), but that of environment {row} is {array[row]}."
            )
        return array

    def _identity(self) -> dict[str, Any]:
        return {
            "suite": self.suite.id,
            "tasks": [task.env_id for task in self.suite.tasks],
            "backend": self.backend,
            "envs_per_task": self.envs_per_task,
            "goals": self._settings.goals,
        }
