"""Metaworld's own environments: how they are built and how a group of them steps through shared arrays."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from numpy.typing import NDArray

from mtrl.envs.errors import SuiteError
from mtrl.envs.metaworld.arrays import INFO_KEYS, Arrays
from mtrl.envs.rendering import HELP, forget_quietly

_VIEW = (0.0, 0.6, 0.15)
"""Point that frames are centered on, the same for all environments and backends: the middle of the table."""


def build(
    task: str,
    reward_version: str,
    model: mujoco.MjModel | None = None,
    render_mode: str | None = None,
) -> SawyerXYZEnv:
    """One environment with a visible goal, ready for ``start``.

    Args:
        task: metaworld's name, ``reach-v3``.
        reward_version: ``v2`` or ``v1``.
        model: the task's compiled model, copied instead of compiling the XML again (about 140 ms).
        render_mode: ``rgb_array`` or None.
    """
    base = ALL_V3_ENVIRONMENTS[task]

    def initialize(self: Any) -> tuple[mujoco.MjModel, mujoco.MjData]:
        if model is None:
            return base._initialize_simulation(self)
        own = copy.copy(model)
        return own, mujoco.MjData(own)

    env_class = type(base.__name__, (base,), {"_initialize_simulation": initialize})
    env = env_class(reward_function_version=reward_version, render_mode=render_mode)
    # What ``set_task`` does, without its pickles. The space is cached with the hidden goal's bounds until deleted.
    env._set_task_called = True
    env._partially_observable = False
    del env.sawyer_observation_space
    # Else the view is where the middle of all geoms happens to be when the first frame is drawn.
    env.mujoco_renderer.default_cam_config = {"lookat": np.array(_VIEW)}
    return env


def start(env: SawyerXYZEnv, goal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Starts an episode with the given goal and returns the first observation [39].

    The goal is copied: some tasks keep views of it.
    """
    env._freeze_rand_vec = True
    env._last_rand_vec = goal.copy()
    obs, _ = env.reset()
    return obs


def check_rendering(env: SawyerXYZEnv) -> None:
    """Raises SuiteError, saying what to install, if ``env`` cannot draw."""
    try:
        env.render()
    except Exception as error:  # each OpenGL platform has its own
        forget_quietly(error)
        raise SuiteError(
            f"The renderer failed ({type(error).__name__}: {error}); {HELP}."
        ) from error


class Group:
    """Environments ``first`` to ``first + len(tasks) - 1`` of the arrays, stepped one after the other."""

    def __init__(
        self, tasks: Sequence[str], reward_version: str, arrays: Arrays, first: int
    ) -> None:
        self._arrays = arrays
        self._first = first
        self._envs: list[SawyerXYZEnv] = []
        render_mode = None if arrays.frames is None else "rgb_array"
        models: dict[str, mujoco.MjModel] = {}
        for task in tasks:
            env = build(task, reward_version, models.get(task), render_mode)
            models.setdefault(task, env.model)
            self._envs.append(env)
        if render_mode is not None:
            check_rendering(self._envs[0])

    def reset(self) -> None:
        """Starts an episode in every environment that ``arrays.restart`` marks."""
        for row, env in enumerate(self._envs, self._first):
            if self._arrays.restart[row]:
                self._start(row, env)

    def step(self) -> None:
        """Steps all but paused environments; where episodes end, the next start with the goal in ``arrays.goal``."""
        arrays = self._arrays
        for row, env in enumerate(self._envs, self._first):
            if arrays.paused[row]:
                continue
            obs, reward, _, _, info = env.step(arrays.action[row])
            arrays.reward[row] = reward
            arrays.info[row] = [info[key] for key in INFO_KEYS]
            arrays.obs[row] = arrays.final_obs[row] = obs
            if arrays.truncated[row]:
                self._start(row, env)

    def render(self) -> None:
        """Writes a frame of every environment to ``arrays.frames``."""
        frames = self._arrays.frames
        assert frames is not None
        for row, env in enumerate(self._envs, self._first):
            frames[row] = env.render()

    def close(self) -> None:
        for env in self._envs:
            env.close()

    def _start(self, row: int, env: SawyerXYZEnv) -> None:
        goal = self._arrays.goal[row]
        self._arrays.obs[row] = start(env, goal[: env._random_reset_space.low.size])
