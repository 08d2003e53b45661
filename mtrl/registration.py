"""Every suite under an id of gymnasium, ``mtrl/mt10-v0``, registered when both packages are imported.

>>> import gymnasium
>>> gymnasium.make_vec("mtrl:mtrl/mt10-v0", envs_per_task=8)  # gymnasium imports what stands before the colon

A suite's colon is a dash there, since gymnasium splits ids at colons: ``mt1:reach-v3`` is ``mtrl/mt1-reach-v3-v0``.
A suite that a file declares has the id ``mtrl/declared-v0`` and the argument ``suite="FILE.yaml"``.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

VERSION = 0
"""Raised when a suite's environments change, so that old numbers stay tied to the old ones."""


def gym_id(suite_id: str) -> str:
    """The id of a suite in gymnasium's registry."""
    return f"mtrl/{suite_id.replace(':', '-')}-v{VERSION}"


def register_when_imported() -> None:
    """Register the suites now if gymnasium is there, else as soon as it is imported.

    Importing gymnasium takes a quarter of a second, which ``import mtrl`` is to do without.
    """
    if "gymnasium" in sys.modules:
        register()
    else:
        sys.meta_path.insert(0, _AfterGymnasium())


def register() -> None:
    """Put every suite that ships, and the id of declared ones, into gymnasium's registry."""
    import gymnasium

    from mtrl.envs.suites import get_suite, suite_ids

    single, several = "mtrl.envs.single:SingleTaskEnv", "mtrl.registration:make_registered"
    for suite_id in suite_ids():
        gymnasium.register(
            gym_id(suite_id),
            entry_point=single if get_suite(suite_id).num_tasks == 1 else None,
            vector_entry_point=several,
            kwargs={"suite": suite_id},
        )
    gymnasium.register(gym_id("declared"), entry_point=single, vector_entry_point=several)


def make_registered(suite: str, num_envs: int = 1, **settings: Any) -> Any:
    """What ``gymnasium.make_vec`` calls: ``make_vec`` with the suite's id.

    Args:
        num_envs: in all, a multiple of the number of tasks; 1, gymnasium's default, leaves it to ``envs_per_task``.
        settings: of ``make_vec``.

    Raises:
        SuiteError: as ``make_vec``, or a number of environments that does not divide among the tasks.
    """
    from mtrl.envs.errors import SuiteError
    from mtrl.envs.make import make_vec
    from mtrl.envs.suites import get_suite

    if num_envs != 1:
        tasks = get_suite(suite).num_tasks
        if "envs_per_task" in settings or num_envs % tasks:
            raise SuiteError(
                f"num_envs: {num_envs} is not a multiple of the {tasks} tasks of {suite}, or stands beside "
                "envs_per_task; give envs_per_task alone."
            )
        settings["envs_per_task"] = num_envs // tasks
    return make_vec(suite, **settings)


class _AfterGymnasium(MetaPathFinder):
    """Registers the suites after the first import of gymnasium, and is then gone."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "gymnasium":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Registering(spec.loader)
        return spec


class _Registering(Loader):
    """Loads gymnasium as ``loader`` does, then registers the suites."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        register()
