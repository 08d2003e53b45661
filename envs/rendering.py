"""How MuJoCo draws without a screen."""

from __future__ import annotations

import os
import sys
import traceback
from ctypes.util import find_library
from importlib import import_module

from mtrl.envs.errors import SuiteError

HELP = (
    "rendering needs OpenGL: on Debian or Ubuntu `apt-get install libegl1 libgl1-mesa-dri` and MUJOCO_GL=egl, "
    "or `apt-get install libosmesa6` and MUJOCO_GL=osmesa"
)


def prepare_mujoco(render: bool) -> None:
    """Imports mujoco, which binds itself to an OpenGL platform at import.

    Args:
        render: choose the platform if ``MUJOCO_GL`` is unset and there is no display: ``egl`` where its library
            exists, else ``osmesa``.

    Raises:
        SuiteError: no library for rendering is installed, or ``MUJOCO_GL`` names one that does not load.
    """
    if render and "MUJOCO_GL" not in os.environ:
        _choose_gl()
    try:
        import_module("mujoco")
    except (AttributeError, ImportError, OSError, RuntimeError) as error:
        if "MUJOCO_GL" not in os.environ:
            raise
        name = os.environ["MUJOCO_GL"]
        raise SuiteError(
            f"mujoco cannot be imported with MUJOCO_GL={name!r}; {HELP}."
        ) from error


def _choose_gl() -> None:
    screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if screen or not sys.platform.startswith("linux"):
        return
    for backend, library in (("egl", "EGL"), ("osmesa", "OSMesa")):
        if find_library(library):
            os.environ["MUJOCO_GL"] = backend
            return
    raise SuiteError(f"No OpenGL library was found; {HELP}.")


def forget_quietly(error: BaseException) -> None:
    """Frees the objects that an error's traceback holds, and hides errors that their ``__del__`` raises.

    Where no OpenGL context could be made, gymnasium's viewer and mujoco's context are half-built, and their ``__del__``
    looks for the missing half. Python would print that after our own error, when it drops the traceback.
    """
    hook, sys.unraisablehook = sys.unraisablehook, _ignore
    try:
        link: BaseException | None = error
        while link is not None:
            traceback.clear_frames(link.__traceback__)
            link = link.__context__
    finally:
        sys.unraisablehook = hook


def _ignore(unraisable: object) -> None:
    pass
