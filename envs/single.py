"""One environment of one task under gymnasium's ``Env``, for ``gymnasium.make``."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from mtrl.envs.errors import SuiteError
from mtrl.envs.make import make_vec
from mtrl.envs.vector import Info

_OF_ENDS = ("final_obs", "final_info")
"""Keys of ``info`` that repeat an episode's last observation; here ``obs`` itself is that observation."""


class SingleTaskEnv(gymnasium.Env):
    """A suite of one task. Episodes restart at ``reset``, as in every ``gymnasium.Env``.

    Args:
        suite: id of a suite with one task, ``mt1:reach-v3``.
        render_mode: ``rgb_array`` for frames from ``render()``.
        settings: of ``make_vec``, without ``envs_per_task``.

    Raises:
        SuiteError: as ``make_vec``, or a suite of several tasks.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - gymnasium's own declaration

    def __init__(self, suite: str, render_mode: str | None = None, **settings: Any) -> None:
        if "envs_per_task" in settings:
            raise SuiteError("envs_per_task: gymnasium.make makes one; use gymnasium.make_vec.")
        self.vector = make_vec(suite, 1, render_mode=render_mode, **settings)
        if self.vector.num_envs != 1:
            raise SuiteError(
                f"{suite} has {self.vector.num_tasks} tasks; use gymnasium.make_vec."
            )
        self.render_mode = render_mode
        self.metadata = self.metadata | {
            "render_fps": self.vector.metadata.get("render_fps", 10)
        }
        self.observation_space = self.vector.single_observation_space
        self.action_space = self.vector.single_action_space
        self._next: NDArray | None = None  # first observation of the episode that has begun

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray, Info]:
        """Start an episode; with ``seed``, as in an environment made with it."""
        super().reset(seed=seed)
        begun, self._next = self._next, None
        if begun is not None and seed is None and not options:
            return begun, {}
        obs, _ = self.vector.reset(seed=seed, options=options)
        return obs[0], {}

    def step(self, action: Any) -> tuple[NDArray, float, bool, bool, Info]:
        obs, reward, terminated, truncated, info = self.vector.step(np.asarray(action)[None])
        ended = bool(terminated[0] or truncated[0])
        # The vector environment has begun the next episode, which the next reset hands out.
        self._next = obs[0] if ended else None
        own = {
            key: value[0].item()
            for key, value in info.items()
            if key not in _OF_ENDS and not key.startswith("_")
        }
        last = info["final_obs"][0]
        return last, float(reward[0]), bool(terminated[0]), bool(truncated[0]), own

    def render(self) -> Any:
        """The frame of the present state, or None without a render mode."""
        frames = self.vector.frames() if self.render_mode is not None else ()
        return frames[0] if frames else None

    def close(self) -> None:
        self.vector.close()
