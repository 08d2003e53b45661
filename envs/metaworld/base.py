"""What all Meta-World backends share: spaces, checks, goals, episode counting and info."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from mtrl.envs.errors import SuiteError
from mtrl.envs.metaworld.arrays import INFO_KEYS, Arrays
from mtrl.envs.metaworld.goals import Goals, GoalSchedule, benchmark_goals
from mtrl.envs.settings import EnvSettings
from mtrl.envs.specs import Suite
from mtrl.envs.vector import EngineVectorEnv, Info, TaskVectorEnv

_HAND_LOW, _HAND_HIGH = (-0.525, 0.348, -0.0525), (0.525, 1.025, 0.7)
# Objects are free to fly off the table, so nothing bounds the 14 numbers on objects. Goals lie within the unit cube.
_FRAME_LOW = (*_HAND_LOW, -1.0, *[-np.inf] * 14)
_FRAME_HIGH = (*_HAND_HIGH, 1.0, *[np.inf] * 14)


def observation_space(num_one_hot: int) -> Box:
    """The space of one observation: hand, gripper, objects, the same one step earlier, goal, one-hot task."""
    low = (*_FRAME_LOW, *_FRAME_LOW, -1.0, -1.0, -1.0, *[0.0] * num_one_hot)
    high = (*_FRAME_HIGH, *_FRAME_HIGH, 1.0, 1.0, 1.0, *[1.0] * num_one_hot)
    return Box(np.array(low, np.float32), np.array(high, np.float32))


class MetaWorldVectorEnv(EngineVectorEnv):
    """Base of the Meta-World backends.

    A backend implements ``_restart``, ``_begin_step`` and ``_end_step`` over ``self._arrays``.

    ``info`` of a step has ``success`` bool [num_envs] and ``near_object``, ``grasp_success``, ``grasp_reward``,
    ``in_place_reward``, ``obj_to_target``, ``unscaled_reward`` float64 [num_envs], all of this very step also where the
    episode ended in it. Where any did, ``final_info`` and ``_final_info`` repeat those rows in gymnasium's format.

    Metaworld's own simulations cannot be saved while they run, so a state is continued exactly by engines of our own,
    and elsewhere if it was taken where all episodes had just begun.

    Attributes:
        goals: one array [50, k] a task, the benchmark's goals (``benchmark_goals``).
    """

    metadata: dict[str, Any] = TaskVectorEnv.metadata | {"render_fps": 80}
    _streams: GoalSchedule

    def __init__(self, suite: Suite, settings: EnvSettings, arrays: Arrays) -> None:
        num_one_hot = suite.num_tasks if settings.one_hot else 0
        streams = GoalSchedule(
            suite.num_tasks, settings.envs_per_task, settings.goals, settings.seed
        )
        super().__init__(
            suite,
            settings,
            streams,
            observation_space(num_one_hot),
            Box(-1.0, 1.0, (4,), np.float32),
        )
        self._arrays = arrays
        self._one_hot = np.eye(suite.num_tasks, dtype=np.float32)[self.task_id]
        self._goal_seed = np.array(0)
        self._seed_goals(settings.seed if settings.goal_seed is None else settings.goal_seed)
        self._phase = np.zeros(self.num_envs, np.int64)
        if settings.stagger:
            place = np.arange(self.num_envs) % settings.envs_per_task
            self._phase = place * suite.horizon // settings.envs_per_task
        self._elapsed = np.zeros(self.num_envs, np.int64)
        self._fresh = np.array(False)  # whether all episodes have just begun

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray, Info]:
        """Start the next episode everywhere; every task moves again.

        Args:
            seed: start all random streams anew, as in an environment made with this seed. The goal sets follow the
                seed unless ``goal_seed`` was given to ``make_vec``: a seed whose goals were never drawn on this machine
                costs about a second a task, later ones a tenth of that. With ``goal_seed`` any seed is free.
            options: not supported; must be None or empty.
        """
        return super().reset(seed=seed, options=options)

    @property
    def goal_index(self) -> NDArray[np.int64]:
        """Which of its task's 50 goals each environment is playing, int64 [num_envs]."""
        return self._streams.goal.copy()

    def start_content(self, index: int) -> bytes | None:
        """The vector that the benchmark draws for a goal; it fixes the task's first state."""
        goal = self.goals[self.task_id[index]][self._streams.goal[index]]
        return goal.tobytes()

    def pause(self, tasks: NDArray[np.bool_]) -> None:
        super().pause(tasks)
        arrays = self._arrays
        arrays.paused[:] = still = np.repeat(self.paused, self.envs_per_task)
        arrays.reward[still] = 0.0
        arrays.info[still] = 0.0
        arrays.final_obs[still] = arrays.obs[still]

    @abstractmethod
    def _restart(self) -> None:
        """Starts an episode with ``arrays.goal`` where ``arrays.restart`` is set, and writes ``arrays.obs`` there."""

    @abstractmethod
    def _begin_step(self) -> None:
        """Begins to step with ``arrays.action``; environments that ``arrays.truncated`` marks then restart with
        ``arrays.goal``."""

    @abstractmethod
    def _end_step(self) -> None:
        """Completes the step: fills ``obs``, ``final_obs``, ``reward``, ``info`` of the arrays."""

    def _goals_changed(self) -> None:
        """Called after ``self.goals`` was set anew, for backends that prepare resets ahead."""

    def _begin(self, actions: NDArray) -> None:
        self._arrays.action[:] = actions
        self._elapsed += ~self._arrays.paused
        ending = (self._elapsed == self.suite.horizon) & ~self._arrays.paused
        self._elapsed[ending] = 0
        self._fresh[...] = False
        self._arrays.truncated[:] = ending
        self._streams.advance(ending)
        self._place_goals(ending)
        self._begin_step()

    def _finish(self) -> tuple[NDArray, NDArray, NDArray, NDArray, Info]:
        self._end_step()
        arrays = self._arrays
        terminated = np.zeros(self.num_envs, np.bool_)  # no Meta-World task ever terminates
        return (
            self._observe(arrays.obs),
            arrays.reward.copy(),
            terminated,
            arrays.truncated.copy(),
            self._step_info(),
        )

    def _reseed(self, seed: int) -> None:
        super()._reseed(seed)
        if self._settings.goal_seed is None:
            self._seed_goals(seed)

    def _start_episodes(self) -> NDArray:
        self._streams.advance(np.ones(self.num_envs, np.bool_))
        self._elapsed[:] = self._phase
        self._begin_episodes()
        return self._observe(self._arrays.obs)

    def _begin_episodes(self) -> None:
        everywhere = np.ones(self.num_envs, np.bool_)
        self._arrays.restart[:] = everywhere
        self._place_goals(everywhere)
        self._restart()
        self._arrays.final_obs[:] = self._arrays.obs  # outputs of paused environments
        self._fresh[...] = self._running = True

    def _kept(self) -> dict[str, NDArray]:
        return {"goal_seed": self._goal_seed, "elapsed": self._elapsed, "fresh": self._fresh}

    def _continue(self, state: Mapping[str, NDArray]) -> None:
        self._seed_goals(int(self._goal_seed))
        if self._fresh:
            self._begin_episodes()

    def _seed_goals(self, goal_seed: int) -> None:
        self._goal_seed[...] = goal_seed
        self.goals: Goals = benchmark_goals(self.suite, goal_seed)
        self._goals_changed()

    def _place_goals(self, which: NDArray[np.bool_]) -> None:
        for index in np.flatnonzero(which):
            goal = self.goals[self.task_id[index]][self._streams.goal[index]]
            self._arrays.goal[index, : goal.size] = goal

    def _observe(self, obs: NDArray[np.float32]) -> NDArray[np.float32]:
        return (
            np.concatenate([obs, self._one_hot], axis=1)
            if self._settings.one_hot
            else obs.copy()
        )

    def _step_info(self) -> Info:
        columns = self._arrays.info.T.copy()
        info: Info = dict(zip(INFO_KEYS, columns))
        info["success"] = columns[0] != 0.0
        ended = self._arrays.truncated.copy()
        if ended.any():
            final = {
                key: np.where(ended, info[key], np.zeros_like(info[key])) for key in INFO_KEYS
            }
            info["final_info"] = final | {f"_{key}": ended.copy() for key in INFO_KEYS}
            info["_final_info"] = ended.copy()
        info["final_obs"] = self._observe(self._arrays.final_obs)
        info["_final_obs"] = ended
        return info

    def _checked(self, actions: NDArray) -> NDArray[np.float32]:
        array = np.asarray(actions, np.float32)
        if array.shape != (self.num_envs, 4):
            raise SuiteError(
                f"actions must have shape ({self.num_envs}, 4), not {array.shape}."
            )
        if np.isnan(array).any():
            row = int(np.flatnonzero(np.isnan(array).any(axis=1))[0])
            task = self.suite.task_names[self.task_id[row]]
            raise SuiteError(
                f"actions must be numbers, but those of environment {row} ({task}) hold NaN."
            )
        return array

    def _identity(self) -> dict[str, Any]:
        settings = self._settings
        return {
            "suite": self.suite.id,
            "backend": self.backend,
            "envs_per_task": settings.envs_per_task,
            "goals": settings.goals,
            "goal_seed": settings.goal_seed,
            "stagger": settings.stagger,
            "one_hot": settings.one_hot,
        }
