"""The reference MiniGrid backend: minigrid's own environments, one after the other."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any

import gymnasium
import minigrid  # noqa: F401  (registers the ids)
import numpy as np
from numpy.typing import NDArray

from mtrl.envs.minigrid.base import OPTIONS, MiniGridVectorEnv
from mtrl.envs.minigrid.batch import STAND_STILL
from mtrl.envs.minigrid.layout import check_view_shapes
from mtrl.envs.minigrid.missions import encode_mission
from mtrl.envs.settings import EnvSettings
from mtrl.envs.specs import Suite

__all__ = ["OPTIONS", "StockMiniGrid", "make"]


def make(suite: Suite, settings: EnvSettings) -> StockMiniGrid:
    return StockMiniGrid(suite, settings)


class StockMiniGrid(MiniGridVectorEnv):
    """Steps minigrid's environments; an episode's level is ``reset(seed=level seed)``.

    Episodes in progress cannot be saved: ``load_state_dict`` starts the present episodes from their beginning, which is
    exact right after ``reset`` or ``rebase``.
    """

    backend = "stock"
    exact_state = False

    def __init__(self, suite: Suite, settings: EnvSettings) -> None:
        super().__init__(suite, settings)
        self._envs: list[Any] = [
            gymnasium.make(self.grid_tasks[task].env_id, disable_env_checker=True).unwrapped
            for task in self.task_id
        ]
        names = [suite.task_names[task] for task in self.task_id]
        check_view_shapes(
            {name: env.observation_space["image"].shape for name, env in zip(names, self._envs)}
        )
        self._actions = np.zeros(self.num_envs, np.int64)
        self._obs = np.zeros((self.num_envs, self.obs_layout.num_bytes), np.uint8)

    def _continue(self, state: Mapping[str, NDArray]) -> None:
        super()._continue(state)
        if self._running:
            self._start()

    def start_content(self, index: int) -> bytes | None:
        """The grid, the agent and the mission."""
        env = self._envs[index]
        agent = (*env.agent_pos, env.agent_dir, env.mission)
        return repr(agent).encode() + env.grid.encode().tobytes()

    def frame(self, index: int) -> NDArray[np.uint8]:
        frame: NDArray[np.uint8] = self._envs[index].get_frame()
        return frame

    def close_extras(self, **kwargs: Any) -> None:
        for env in self._envs:
            env.close()

    def _start(self) -> NDArray[np.uint8]:
        self._obs = np.stack([self._start_level(index) for index in range(self.num_envs)])
        return self._obs.copy()

    def _start_level(self, index: int) -> NDArray[np.uint8]:
        # BabyAI levels print each draw that they reject.
        with contextlib.redirect_stdout(io.StringIO()):
            obs, _ = self._envs[index].reset(seed=self._streams.seeds([index])[0])
        return self._encode(index, obs)

    def _begin_step(self, actions: NDArray[np.int64]) -> None:
        self._actions = actions

    def _end_step(self) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray]:
        num = self.num_envs
        obs, final_obs, reward = self._obs.copy(), self._obs.copy(), np.zeros(num)
        terminated, truncated = np.zeros(num, np.bool_), np.zeros(num, np.bool_)
        for i, env in enumerate(self._envs):
            if self._actions[i] == STAND_STILL:
                continue
            # Past its action set only Dynamic-Obstacles is defined: it turns left, as every task does here.
            action = (
                int(self._actions[i])
                if self.action_mask[self.task_id[i], self._actions[i]]
                else 0
            )
            seen, reward[i], terminated[i], truncated[i], _ = env.step(action)
            obs[i] = final_obs[i] = self._encode(i, seen)
            if terminated[i] or truncated[i]:
                self._streams.episode[i] += 1
                obs[i] = self._start_level(i)
        self._obs = obs.copy()
        return obs, final_obs, reward, terminated, truncated

    def _encode(self, index: int, seen: Mapping[str, Any]) -> NDArray[np.uint8]:
        words = self.obs_layout.mission_words
        if self.grid_tasks[self.task_id[index]].words:
            mission = encode_mission(seen["mission"], words)
        else:
            mission = np.zeros(words, np.uint8)
        direction = np.array([seen["direction"]], np.uint8)
        return np.concatenate([seen["image"].reshape(-1), direction, mission])
