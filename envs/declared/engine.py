"""Declared suites as a task-major vector environment: gymnasium's environments, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from gymnasium.spaces import Box, Discrete, Space
from numpy.typing import NDArray

from mtrl.envs.declared.member import Member
from mtrl.envs.declared.streams import EpisodeStreams
from mtrl.envs.declared.task import DeclaredTask
from mtrl.envs.errors import SuiteError
from mtrl.envs.frames import padded
from mtrl.envs.settings import EnvSettings
from mtrl.envs.specs import Suite
from mtrl.envs.vector import EngineVectorEnv, Info

OPTIONS = frozenset({"goals", "goal_seed", "render_mode"})


def make(suite: Suite, settings: EnvSettings) -> GymnasiumVectorEnv:
    return GymnasiumVectorEnv(suite, settings)


class GymnasiumVectorEnv(EngineVectorEnv):
    """Steps any gymnasium environments that ``envs.declared`` could join.

    Observations are float32 rows as wide as the widest task's; a narrower one is filled up with zeros at its end.
    Discrete actions are numbers below the largest count among the tasks; one that a task lacks is its first action.
    Continuous actions are numbers in [-1, 1], as many as the task with most components has; each task maps its own onto
    its bounds and ignores the surplus.

    Episodes in progress cannot be saved: ``load_state_dict`` starts the present episodes from their beginning, which is
    exact right after ``reset`` or ``rebase``. In evaluation (``goals="cycle"``) every ``reset`` and ``rebase`` starts
    again with the first seeds.

    Attributes:
        observation_sizes: entries of each task's own observation.
    """

    backend = "gymnasium"
    exact_state = False
    _streams: EpisodeStreams

    def __init__(self, suite: Suite, settings: EnvSettings) -> None:
        tasks = cast(tuple[DeclaredTask, ...], suite.tasks)
        for task in tasks:
            if not isinstance(task, DeclaredTask):
                raise SuiteError(f"{suite.id}: task {task.name} is no declared task.")
        self.observation_sizes = tuple(task.num_features for task in tasks)
        evaluates = settings.goals == "cycle" and settings.goal_seed is not None
        seed = int(settings.goal_seed or 0) if evaluates else settings.seed
        streams = EpisodeStreams(suite.num_tasks, settings.envs_per_task, settings.goals, seed)
        one_hot = suite.num_tasks if settings.one_hot else 0
        width = max(self.observation_sizes) + one_hot
        observations = Box(-np.inf, np.inf, (width,), np.float32)
        super().__init__(suite, settings, streams, observations, _action_space(suite, tasks))
        self._obs = np.zeros((self.num_envs, width), np.float32)
        if one_hot:
            self._obs[:, -one_hot:] = np.eye(one_hot, dtype=np.float32)[self.task_id]
        self._held = np.zeros(self.num_envs, np.bool_)
        self._actions: NDArray = np.zeros(0)
        self.members: list[Member] = []
        for task_id in self.task_id:
            self.members.append(Member(tasks[task_id], settings.render_mode))
        fps = [int(member.env.metadata.get("render_fps", 30)) for member in self.members]
        self.metadata = self.metadata | {"render_fps": max(fps)}

    def hold(self, rows: NDArray[np.bool_]) -> None:
        self._check_idle("hold")
        self._held = rows.copy()

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """One RGB frame per environment in one size; None without a render mode. ``frames`` has them in their own."""
        return None if self.render_mode is None else padded(self.frames())

    def frames(self, only: Sequence[int] | None = None) -> tuple[NDArray[np.uint8], ...]:
        self._check_idle("render")
        if self.render_mode is None:
            return ()
        wanted = range(self.num_envs) if only is None else only
        return tuple(self.members[index].frame() for index in wanted)

    def close_extras(self, **kwargs: Any) -> None:
        for member in self.members:
            member.env.close()

    def _start_episodes(self) -> NDArray[np.float32]:
        if self._streams.cycle:
            self._streams.episode[:] = -1
        self._streams.episode += 1
        self._running = True
        return self._start()

    def _start(self) -> NDArray[np.float32]:
        """Start the present episodes everywhere."""
        for index in range(self.num_envs):
            self._start_one(index)
        return self._obs.copy()

    def _start_one(self, index: int) -> None:
        member = self.members[index]
        shown = member.start(self._streams.episode_seed(index))
        self._obs[index, : len(shown)] = shown

    def _continue(self, state: Mapping[str, NDArray]) -> None:
        super()._continue(state)
        if self._running:
            self._start()

    def _begin(self, actions: NDArray) -> None:
        self._actions = actions

    def _finish(self) -> tuple[NDArray, NDArray, NDArray, NDArray, Info]:
        moves = ~(self._held | self.paused[self.task_id])
        self._held[:] = False
        final_obs, reward = self._obs.copy(), np.zeros(self.num_envs)
        terminated, truncated = np.zeros_like(moves), np.zeros_like(moves)
        success = np.zeros_like(moves)
        for i in np.flatnonzero(moves).tolist():
            outcome = self.members[i].step(self._actions[i])
            shown, reward[i], terminated[i], truncated[i], success[i] = outcome
            final_obs[i, : len(shown)] = self._obs[i, : len(shown)] = shown
            if terminated[i] or truncated[i]:
                self._streams.episode[i] += 1
                self._start_one(i)
        info: Info = {"success": success, "final_obs": final_obs}
        info["_final_obs"] = terminated | truncated
        return self._obs.copy(), reward, terminated, truncated, info

    def _checked(self, actions: NDArray) -> NDArray:
        array, space = np.asarray(actions), self.single_action_space
        if isinstance(space, Discrete):
            if array.shape != (self.num_envs,) or array.dtype.kind not in "iu":
                raise SuiteError(
                    f"actions must be {self.num_envs} integers, not {array.dtype} of shape {array.shape}."
                )
            wrong = (array < 0) | (array >= space.n)
            allowed = f"lie in [0, {space.n})"
        else:
            shape = (self.num_envs, *(space.shape or ()))
            if array.shape != shape or array.dtype.kind not in "iuf":
                raise SuiteError(
                    f"actions must be numbers of shape {shape}, not {array.dtype} of shape {array.shape}."
                )
            wrong = np.isnan(array).any(1)
            allowed = "not be NaN"
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise SuiteError(
                f"actions must {allowed}, but that of environment {row} is {array[row]}."
            )
        return array.copy()  # the caller may change its own before the step is finished

    def _identity(self) -> dict[str, Any]:
        return {
            "suite": self.suite.id,
            "tasks": list(self.suite.task_names),
            "backend": self.backend,
            "envs_per_task": self.envs_per_task,
            "goals": self._settings.goals,
        }


def _action_space(suite: Suite, tasks: Sequence[DeclaredTask]) -> Space:
    most = max(len(task.actions) for task in tasks)
    return Discrete(most) if suite.discrete else Box(-1.0, 1.0, (most,), np.float32)
