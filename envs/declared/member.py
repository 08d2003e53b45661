"""One gymnasium environment, seen as its task declares it."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from mtrl.envs.declared.opening import check_fit, flat, make_env, num_features, own_actions
from mtrl.envs.declared.task import DeclaredTask
from mtrl.envs.errors import SuiteError, nearest

Outcome = tuple[NDArray[np.float32], float, bool, bool, bool]
"""Observation, reward, terminated, truncated, success."""


class Member:
    """An environment of a task, with its own time limit and its rule of success.

    Attributes:
        steps: taken in the present episode.
        total: undiscounted return of the present episode.
    """

    def __init__(self, task: DeclaredTask, render_mode: str | None) -> None:
        self.task = task
        drawing = {} if render_mode is None else {"render_mode": render_mode}
        # The horizon is the task's; gymnasium's own limit may be a shorter one.
        self.env = make_env(task.env_id, dict(task.make), max_episode_steps=-1, **drawing)
        self.steps, self.total = 0, 0.0
        self._check(render_mode)

    def _check(self, render_mode: str | None) -> None:
        """Another version of a package may have other spaces than those that were declared."""
        task, where = self.task, f"task {self.task.name}"
        size = num_features(self.env.observation_space, where)
        own = own_actions(self.env.action_space, where)
        check_fit(task.observation, task.actions, size, own, where)
        if isinstance(self.env.action_space, Box) == (task.num_actions is not None):
            raise SuiteError(
                f"{where}: its actions are {self.env.action_space}, and its declaration has another kind."
            )
        modes = self.env.metadata.get("render_modes", [])
        if render_mode is not None and render_mode not in modes:
            raise SuiteError(f"{where}: {task.env_id} draws no {render_mode}; it has {modes}.")

    def start(self, seed: int) -> NDArray[np.float32]:
        """Start an episode; returns the task's part of the first observation."""
        self.steps, self.total = 0, 0.0
        observation, _ = self.env.reset(seed=seed)
        return self._shown(observation)

    def step(self, action: Any) -> Outcome:
        """Take a step.

        Args:
            action: the number of an action, where the suite is discrete; one that the task lacks is its first. Else
                numbers in [-1, 1], of which the task takes as many as it has.
        """
        observation, reward, terminated, cut, info = self.env.step(self._own(action))
        self.steps += 1
        self.total += float(reward)
        truncated = bool(cut) or self.steps >= self.task.horizon
        success = self._succeeds(info, bool(terminated) or truncated)
        return self._shown(observation), float(reward), bool(terminated), truncated, success

    def frame(self) -> NDArray[np.uint8]:
        """RGB frame ``[height, width, 3]``."""
        try:
            return np.asarray(self.env.render(), np.uint8)
        # Drawing needs libraries that an environment loads only now, and each fails in its own way.
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise SuiteError(
                f"task {self.task.name}: {self.task.env_id} cannot be drawn: {reason.rstrip('.')}."
            ) from error

    def _own(self, action: Any) -> Any:
        """The environment's own action."""
        space, actions = self.env.action_space, self.task.actions
        if not isinstance(space, Box):
            return actions[action if action < len(actions) else 0]
        own = (space.low + space.high) / 2
        half = (space.high - space.low) / 2
        components = list(actions)
        own[components] += half[components] * np.clip(action[: len(actions)], -1.0, 1.0)
        return own.astype(space.dtype)

    def _shown(self, observation: Any) -> NDArray[np.float32]:
        first, end = self.task.observation
        shown = flat(self.env.observation_space, observation)[first:end]
        if not np.isfinite(shown).all():
            raise SuiteError(
                f"task {self.task.name}: {self.task.env_id} observes NaN or infinity."
            )
        return shown

    def _succeeds(self, info: dict[str, Any], ended: bool) -> bool:
        if self.task.success_return is not None:
            return ended and self.total >= self.task.success_return
        key = str(self.task.success_info)
        if ended and key not in info:
            # Some environments have the key only where it is true, so only a misspelling can be told.
            close = nearest(key, [name for name in info if isinstance(name, str)], 0.8)
            if close:
                raise SuiteError(
                    f"task {self.task.name}: info of {self.task.env_id} has no {key!r}; did you mean {close!r}?"
                )
        return bool(info.get(key, False))
