"""Callbacks in the style of Stable-Baselines3, called at the same moments as there; SB3 itself is not imported.

An SB3 ``BaseCallback`` (its ``EvalCallback``, ``CheckpointCallback``, ``CallbackList`` and the like included) sees an
agent of ours as its ``model``. ``self.locals`` holds ``rewards``, ``dones``, ``infos`` and ``total_timesteps``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mtrl.agents.data.arrays import Array, host
from mtrl.agents.errors import AgentError

if TYPE_CHECKING:
    from mtrl.agents.agent import Agent

Callback = Callable[["Agent"], bool | None]


class LearningStopped(Exception):
    """A callback asked ``learn`` to stop."""


class Recorder:
    """Values that callbacks record, until the caller reads them: the part of SB3's ``Logger`` that needs no file.

    Attributes:
        name_to_value: the recorded values by key.
    """

    def __init__(self) -> None:
        self.name_to_value: dict[str, Any] = {}

    def record(self, key: str, value: Any, exclude: Any = None) -> None:
        """Note a value; a later one under the same key replaces it."""
        self.name_to_value[key] = value

    def dump(self, step: int = 0) -> None:
        """Nothing is written here; ``Agent.set_logger`` takes a logger that does."""


class Hooks:
    """The SB3-style callbacks of one call of ``learn``.

    Args:
        callbacks: objects with the methods of SB3's ``BaseCallback``.
    """

    def __init__(self, agent: Agent, callbacks: Sequence[Any]) -> None:
        self._agent = agent
        self._callbacks = callbacks
        num_envs = agent.env.num_envs if callbacks else 0
        self._returns = np.zeros(num_envs)
        self._lengths = np.zeros(num_envs, np.int64)
        self._ever = np.zeros(num_envs, bool)

    def training_start(self, total_env_steps: int) -> None:
        for callback in self._callbacks:
            callback.init_callback(self._agent)
            callback.on_training_start(
                {"self": self._agent, "total_timesteps": total_env_steps}, {}
            )

    def rollout_start(self) -> None:
        for callback in self._callbacks:
            callback.on_rollout_start()

    def step(
        self, reward: Array, terminated: Array, truncated: Array, info: dict[str, Any]
    ) -> None:
        """Call the callbacks after one vector step, whose transitions are stored.

        Arrays are ``[num_envs]``; ``info`` is the environment's.

        Raises:
            LearningStopped: a callback returned False.
        """
        if not self._callbacks:
            return
        reward, terminated, truncated = host(reward), host(terminated), host(truncated)
        done = terminated | truncated
        seen = {name: host(info[name]) for name in ("success", "final_obs")}
        infos = self._infos(reward, terminated, truncated, seen)
        go_on = True
        for callback in self._callbacks:
            callback.update_locals({"rewards": reward, "dones": done, "infos": infos})
            # Every callback sees the step, also after one has asked to stop.
            go_on = callback.on_step() is not False and go_on
        if not go_on:
            raise LearningStopped

    def rollout_end(self) -> None:
        for callback in self._callbacks:
            callback.on_rollout_end()

    def training_end(self) -> None:
        for callback in self._callbacks:
            callback.on_training_end()

    def _infos(
        self, reward: NDArray, terminated: NDArray, truncated: NDArray, info: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """One dict per environment, with what SB3's ``Monitor`` adds where an episode ended."""
        self._returns += reward
        self._lengths += 1
        self._ever |= info["success"]
        infos: list[dict[str, Any]] = [{"success": bool(won)} for won in info["success"]]
        done = terminated | truncated
        for row in np.flatnonzero(done):
            infos[row] |= {
                "terminal_observation": info["final_obs"][row],
                "TimeLimit.truncated": bool(truncated[row] and not terminated[row]),
                "is_success": bool(self._ever[row]),
                "episode": {"r": float(self._returns[row]), "l": int(self._lengths[row])},
            }
        self._returns[done] = 0.0
        self._lengths[done] = 0
        self._ever[done] = False
        return infos


def sort_callbacks(callback: Any) -> tuple[list[Any], list[Callback]]:
    """SB3-style callbacks and plain functions among ``callback``: one, a list of them, or None.

    Raises:
        AgentError: something that is neither.
    """
    if callback is None:
        given = []
    elif isinstance(callback, list | tuple):
        given = list(callback)
    else:
        given = [callback]
    hooks = [one for one in given if hasattr(one, "init_callback")]
    functions = [one for one in given if not hasattr(one, "init_callback")]
    for one in functions:
        if not callable(one):
            raise AgentError(
                f"callback: {one!r} is neither a function of the agent nor an SB3 callback"
            )
    return hooks, functions
