"""What all Meta-World backends share: spaces, checks, goals, episode counting, info and state."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from mtrl.envs.errors import SuiteError
from mtrl.envs.metaworld.arrays import INFO_KEYS, Arrays
from mtrl.envs.metaworld.goals import Goals, GoalSchedule, benchmark_goals
from mtrl.envs.seeding import check_seed
from mtrl.envs.settings import EnvSettings
from mtrl.envs.specs import Suite
from mtrl.envs.vector import Info, TaskVectorEnv

_HAND_LOW, _HAND_HIGH = (-0.525, 0.348, -0.0525), (0.525, 1.025, 0.7)
# Objects are free to fly off the table, so nothing bounds the 14 numbers on objects. Goals lie within the unit cube.
_FRAME_LOW = (*_HAND_LOW, -1.0, *[-np.inf] * 14)
_FRAME_HIGH = (*_HAND_HIGH, 1.0, *[np.inf] * 14)


def observation_space(num_one_hot: int) -> Box:
    """The space of one observation: hand, gripper, objects, the same one step earlier, goal, one-hot task."""
    low = (*_FRAME_LOW, *_FRAME_LOW, -1.0, -1.0, -1.0, *[0.0] * num_one_hot)
    high = (*_FRAME_HIGH, *_FRAME_HIGH, 1.0, 1.0, 1.0, *[1.0] * num_one_hot)
    return Box(np.array(low, np.float32), np.array(high, np.float32))


class MetaWorldVectorEnv(TaskVectorEnv):
    """Base of the Meta-World backends.

    A backend implements ``_restart``, ``_begin_step`` and ``_end_step`` over ``self._arrays``.

    ``info`` of a step has ``success`` bool [num_envs] and ``near_object``, ``grasp_success``, ``grasp_reward``,
    ``in_place_reward``, ``obj_to_target``, ``unscaled_reward`` float64 [num_envs], all of this very step also where the
    episode ended in it. Where any did, ``final_info`` and ``_final_info`` repeat those rows in gymnasium's format.

    Attributes:
        goals: one array [50, k] a task, the benchmark's goals (``benchmark_goals``).
    """

    metadata: dict[str, Any] = TaskVectorEnv.metadata | {"render_fps": 80}

    def __init__(self, suite: Suite, settings: EnvSettings, arrays: Arrays) -> None:
        num_one_hot = suite.num_tasks if settings.one_hot else 0
        action_space = Box(-1.0, 1.0, (4,), np.float32)
        super().__init__(
            suite, settings.envs_per_task, observation_space(num_one_hot), action_space
        )
        self.render_mode = settings.render_mode
        self._settings = settings
        self._arrays = arrays
        self._one_hot = np.eye(suite.num_tasks, dtype=np.float32)[self.task_id]
        self._schedule = GoalSchedule(
            suite.num_tasks, settings.envs_per_task, settings.goals, settings.seed
        )
        self._seed_goals(settings.seed if settings.goal_seed is None else settings.goal_seed)
        phase = (
            np.arange(self.num_envs)
            % settings.envs_per_task
            * suite.horizon
            // settings.envs_per_task
        )
        self._phase = phase if settings.stagger else np.zeros_like(phase)
        self._elapsed = np.zeros(self.num_envs, np.int64)
        self._fresh = False
        self._running = False
        self._stepping = False

    @property
    def goal_index(self) -> NDArray[np.int64]:
        """Which of its task's 50 goals each environment is playing, int64 [num_envs]."""
        return self._schedule.goal.copy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray, Info]:
        """Starts the next episode everywhere.

        Args:
            seed: start all random streams anew, as in an environment made with this seed. The goal sets follow the
                seed unless ``goal_seed`` was given to ``make_vec``.
            options: not supported; must be None or empty.
        """
        self._check_idle("reset")
        if options:
            raise SuiteError(f"reset takes no options, but got {sorted(options)}.")
        self.pause(np.zeros(self.num_tasks, np.bool_))
        if seed is not None:
            seed = check_seed("seed", seed)
            self._schedule.restart(seed, boundary=0)
            if self._settings.goal_seed is None:
                self._seed_goals(seed)
        return self._start_all(), {}

    def rebase(self, boundary: int) -> NDArray:
        self._check_idle("rebase")
        self._schedule.restart(self._schedule.seed, check_seed("boundary", boundary))
        return self._start_all()

    def start_content(self, index: int) -> bytes | None:
        """The vector that the benchmark draws for a goal; it fixes the task's first state."""
        goal = self.goals[self.task_id[index]][self._schedule.goal[index]]
        return goal.tobytes()

    def pause(self, tasks: NDArray[np.bool_]) -> None:
        self._check_idle("pause")
        self._set_paused(tasks)
        arrays = self._arrays
        arrays.paused[:] = still = np.repeat(self.paused, self.envs_per_task)
        arrays.reward[still] = 0.0
        arrays.info[still] = 0.0
        arrays.final_obs[still] = arrays.obs[still]

    def step_async(self, actions: NDArray) -> None:
        self._check_idle("step_async")
        if not self._running:
            raise SuiteError(
                "Call reset or rebase before the first step, and rebase after loading a state."
            )
        self._arrays.action[:] = self._checked(actions)
        self._elapsed += ~self._arrays.paused
        ending = (self._elapsed == self.suite.horizon) & ~self._arrays.paused
        self._elapsed[ending] = 0
        self._fresh = False
        self._arrays.truncated[:] = ending
        self._schedule.advance(ending)
        self._place_goals(ending)
        self._stepping = True
        self._begin_step()

    def step_wait(self) -> tuple[NDArray, NDArray, NDArray, NDArray, Info]:
        if not self._stepping:
            raise SuiteError("step_wait without step_async.")
        self._stepping = False
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

    def state_dict(self) -> dict[str, NDArray]:
        self._check_idle("state_dict")
        identity = json.dumps(self._identity()).encode()
        return {
            "identity": np.frombuffer(identity, np.uint8).copy(),
            "seed": np.array(self._schedule.seed),
            "goal_seed": np.array(self._goal_seed),
            "boundary": np.array(self._schedule.boundary),
            "episode": self._schedule.episode.copy(),
            "elapsed": self._elapsed.copy(),
            "fresh": np.array(self._fresh),
            "paused": self.paused.copy(),
        }

    def load_state_dict(self, state: Mapping[str, NDArray]) -> None:
        """Restores seeds, streams and counters.

        If the state was taken where all episodes had just begun (after ``reset`` or ``rebase``), stepping continues
        from it exactly. Otherwise ``rebase`` or ``reset`` must come before the next step: metaworld's simulations
        cannot be saved while they run.
        """
        self._check_idle("load_state_dict")
        self._check_identity(state)
        self._seed_goals(int(state["goal_seed"]))
        self._schedule.restart(int(state["seed"]), int(state["boundary"]))
        self._schedule.set_episode(np.asarray(state["episode"]))
        self._elapsed[:] = state["elapsed"]
        self._running = False
        self.pause(np.asarray(state["paused"]))
        if state["fresh"]:
            self._begin_episodes()

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

    def _start_all(self) -> NDArray:
        self._schedule.advance(np.ones(self.num_envs, np.bool_))
        self._elapsed[:] = self._phase
        self._begin_episodes()
        return self._observe(self._arrays.obs)

    def _begin_episodes(self) -> None:
        everywhere = np.ones(self.num_envs, np.bool_)
        self._arrays.restart[:] = everywhere
        self._place_goals(everywhere)
        self._restart()
        self._arrays.final_obs[:] = self._arrays.obs  # what paused environments give
        self._running = self._fresh = True

    def _seed_goals(self, goal_seed: int) -> None:
        self._goal_seed = goal_seed
        self.goals: Goals = benchmark_goals(self.suite, goal_seed)
        self._goals_changed()

    def _place_goals(self, which: NDArray[np.bool_]) -> None:
        for index in np.flatnonzero(which):
            goal = self.goals[self.task_id[index]][self._schedule.goal[index]]
            self._arrays.goal[index, : goal.size] = goal

    def _observe(self, obs: NDArray[np.float32]) -> NDArray[np.float32]:
        return (
            np.concatenate([obs, self._one_hot], axis=1) if self._settings.one_hot else obs.copy()
        )

    def _step_info(self) -> Info:
        columns = self._arrays.info.T.copy()
        info: Info = dict(zip(INFO_KEYS, columns))
        info["success"] = columns[0] != 0.0
        ended = self._arrays.truncated.copy()
        if ended.any():
            final = {key: np.where(ended, info[key], np.zeros_like(info[key])) for key in INFO_KEYS}
            info["final_info"] = final | {f"_{key}": ended.copy() for key in INFO_KEYS}
            info["_final_info"] = ended.copy()
        info["final_obs"] = self._observe(self._arrays.final_obs)
        info["_final_obs"] = ended
        return info

    def _checked(self, actions: NDArray) -> NDArray[np.float32]:
        array = np.asarray(actions, np.float32)
        if array.shape != (self.num_envs, 4):
            raise SuiteError(f"actions must have shape ({self.num_envs}, 4), not {array.shape}.")
        if np.isnan(array).any():
            row = int(np.flatnonzero(np.isnan(array).any(axis=1))[0])
            task = self.suite.task_names[self.task_id[row]]
            raise SuiteError(
                f"actions must be numbers, but those of environment {row} ({task}) hold NaN."
            )
        return array

    def _check_idle(self, method: str) -> None:
        if self.closed:
            raise SuiteError(f"{method} after close: the environment is closed.")
        if self._stepping:
            raise SuiteError(f"{method} between step_async and step_wait.")

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

    def _check_identity(self, state: Mapping[str, NDArray]) -> None:
        missing = {
            "identity",
            "seed",
            "goal_seed",
            "boundary",
            "episode",
            "elapsed",
            "fresh",
            "paused",
        } - set(state)
        if missing:
            raise SuiteError(
                f"The state is of another environment: it lacks {', '.join(sorted(missing))}."
            )
        theirs = json.loads(np.asarray(state["identity"]).tobytes())
        for key, value in self._identity().items():
            if theirs.get(key) != value:
                raise SuiteError(
                    f"The state is of another environment: {key} is {theirs.get(key)!r}, here {value!r}."
                )
