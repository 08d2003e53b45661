"""Frames of the engine's states, drawn by stock environments."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Sequence

import mujoco
import numpy as np
from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from numpy.typing import NDArray

from mtrl.envs.errors import SuiteError
from mtrl.envs.metaworld.native import layout as at
from mtrl.envs.metaworld.simulators import build, check_rendering, start

# Beside the arm, because from behind the arm hides the object. Handles, drawers and windows face this side.
CLOSE = {
    "azimuth": 135.0,
    "elevation": -30.0,
    "distance": 1.1,
    "lookat": np.array((0.0, 0.7, 0.12)),
}
CAMERAS = (
    *("close", "corner", "corner2", "corner3", "corner4"),
    *("topview", "behindGripper", "gripperPOV"),
)
_SHADOW_PIXELS = 1024  # MuJoCo's 4096 cost two fifths of a small frame where a CPU draws


class Painter:
    """Keeps one stock environment a task, made when first needed.

    Args:
        camera: one of ``CAMERAS``; None for the view that stock environments have.
        size: width and height of frames; None for 480 x 480.

    Raises:
        SuiteError: an unknown camera, or the renderer fails.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        camera: str | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        if camera is not None and camera not in CAMERAS:
            raise SuiteError(f"camera must be one of {', '.join(CAMERAS)}, not {camera!r}.")
        self._tasks = tasks
        self._camera, self._size = camera, size
        self._envs: dict[int, SawyerXYZEnv] = {}
        self._placed: dict[int, NDArray[np.float64]] = {}
        check_rendering(self._env(0))
        # OpenGL contexts must be freed before their platform, whose exit handler was registered earlier.
        atexit.register(_close, weakref.ref(self))

    def frame(
        self, task: int, goal: NDArray[np.float64], state: NDArray[np.float64] | None
    ) -> NDArray[np.uint8]:
        """The frame [height, width, 3] of ``state``, or of the reset to ``goal`` if that is None."""
        env = self._env(task)
        if state is None or not np.array_equal(self._placed.get(task, ()), goal):
            start(env, goal)  # places the fixture and the goal's mark
            self._placed[task] = goal.copy()
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
            env = build(self._tasks[task], "v2", render_mode="rgb_array")
            if self._camera is not None or self._size is not None:
                env.mujoco_renderer = self._renderer(env)
            self._envs[task] = env
        return self._envs[task]

    def _renderer(self, env: SawyerXYZEnv) -> MujocoRenderer:
        width, height = self._size or (480, 480)
        env.model.vis.quality.shadowsize = _SHADOW_PIXELS
        free = CLOSE if self._camera == "close" else env.mujoco_renderer.default_cam_config
        fixed = None if self._camera == "close" else self._camera
        return MujocoRenderer(env.model, env.data, free, width, height, camera_name=fixed)


def _close(reference: weakref.ref[Painter]) -> None:
    painter = reference()
    if painter is not None:
        painter.close()
