"""Frames of the engine's states, drawn by stock environments."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Sequence

import mujoco
import numpy as np
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from numpy.typing import NDArray

from mtrl.envs.metaworld.native import layout as at
from mtrl.envs.metaworld.simulators import build, check_rendering, start


class Painter:
    """Keeps one stock environment a task, made when first needed.

    Raises:
        SuiteError: the renderer fails.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        self._tasks = tasks
        self._envs: dict[int, SawyerXYZEnv] = {}
        check_rendering(self._env(0))
        # OpenGL contexts must be freed before their platform, whose exit handler was registered earlier.
        atexit.register(_close, weakref.ref(self))

    def frame(
        self, task: int, goal: NDArray[np.float64], state: NDArray[np.float64] | None
    ) -> NDArray[np.uint8]:
        """The frame [480, 480, 3] of ``state``, or of the reset to ``goal`` if that is None."""
        env = self._env(task)
        start(env, goal)  # places the fixture and the goal's mark
        if state is not None:
            model, data = env.model, env.data
            data.qpos[:] = state[at.QPOS : at.QPOS + model.nq]
            data.qvel[:] = state[at.QVEL : at.QVEL + model.nv]
            data.mocap_pos[0] = state[at.MOCAP : at.MOCAP + 3]
            mujoco.mj_forward(model, data)
        return env.render()

    def close(self) -> None:
        """Frees the renderers; harmless when repeated."""
        for env in self._envs.values():
            env.close()
        self._envs.clear()

    def _env(self, task: int) -> SawyerXYZEnv:
        if task not in self._envs:
            self._envs[task] = build(self._tasks[task], "v2", render_mode="rgb_array")
        return self._envs[task]


def _close(reference: weakref.ref[Painter]) -> None:
    painter = reference()
    if painter is not None:
        painter.close()
