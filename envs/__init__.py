"""Suites and task-major vector environments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from mtrl.envs.errors import SuiteError as SuiteError
    from mtrl.envs.make import backends as backends
    from mtrl.envs.make import make_vec as make_vec
    from mtrl.envs.specs import Suite as Suite
    from mtrl.envs.specs import TaskSpec as TaskSpec
    from mtrl.envs.specs import task_graph as task_graph
    from mtrl.envs.suites import declare as declare
    from mtrl.envs.suites import get_suite as get_suite
    from mtrl.envs.suites import suite_ids as suite_ids
    from mtrl.envs.vector import TaskVectorEnv as TaskVectorEnv

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "make": ("backends", "make_vec"),
        "errors": ("SuiteError",),
        "specs": ("Suite", "TaskSpec", "task_graph"),
        "suites": ("declare", "get_suite", "suite_ids"),
        "vector": ("TaskVectorEnv",),
    },
)
