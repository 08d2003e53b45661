"""Next-step autoreset, for gymnasium's observation wrappers, around an environment that restarts within a step."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorWrapper
from numpy.typing import NDArray

from mtrl.envs.specs import Suite
from mtrl.envs.vector import Info, TaskVectorEnv

_SAME_STEP_KEYS = ("final_obs", "_final_obs", "final_info", "_final_info")


class NextStepAutoreset(VectorWrapper):
    """A ``TaskVectorEnv`` under gymnasium's contract ``AutoresetMode.NEXT_STEP``.

    The step that ends an episode returns its true last observation. The next step ignores that row's action and returns
    the first observation of the new episode, with reward 0, no end and no success. ``info`` has no ``final_obs`` and no
    ``final_info``. Episodes, levels and goals are those of the wrapped environment.

    A collector must drop the transition of the second step: its observations belong to two episodes. Our agents take
    ``TaskVectorEnv`` only, which has no such transition.

    Attributes:
        env: the wrapped environment.
        task_id: int64 ``[num_envs]``, the task of each environment.
    """

    env: TaskVectorEnv

    def __init__(self, env: TaskVectorEnv) -> None:
        super().__init__(env)
        self.metadata = env.metadata | {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.task_id: NDArray[np.int64] = env.task_id
        self._ended = np.zeros(env.num_envs, np.bool_)
        self._first: NDArray = np.empty(0)
        self._info: Info = {}

    @property
    def suite(self) -> Suite:
        """The suite's specification."""
        return self.env.suite

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray, Info]:
        obs, info = self.env.reset(seed=seed, options=options)
        self._ended[:] = False
        return obs, info

    def step(self, actions: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray, Info]:
        if self._ended.all():
            return self._restart()
        if self._ended.any():
            self.env.hold(self._ended)
        obs, reward, terminated, truncated, info = self.env.step(actions)
        self._first, self._ended = obs, terminated | truncated
        last = info["final_obs"]
        self._info = {
            name: value for name, value in info.items() if name not in _SAME_STEP_KEYS
        }
        return last, reward, terminated, truncated, dict(self._info)

    def _restart(self) -> tuple[NDArray, NDArray, NDArray, NDArray, Info]:
        """The step after one that ended every episode; the wrapped environment does not move."""
        num_envs = self.env.num_envs
        never = np.zeros(num_envs, np.bool_)
        self._ended = never.copy()
        info = {name: np.zeros_like(value) for name, value in self._info.items()}
        return self._first.copy(), np.zeros(num_envs), never, never.copy(), info
