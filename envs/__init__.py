"""Suites and task-major vector environments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtrl.envs.lazy import attach

if TYPE_CHECKING:
    from mtrl.envs.graph import task_graph as task_graph
    from mtrl.envs.make import backends as backends
    from mtrl.envs.make import make_vec as make_vec
    from mtrl.envs.specs import Suite as Suite
    from mtrl.envs.specs import SuiteError as SuiteError
    from mtrl.envs.specs import TaskSpec as TaskSpec
    from mtrl.envs.suites import get_suite as get_suite
    from mtrl.envs.suites import suite_ids as suite_ids
    from mtrl.envs.vector import TaskVectorEnv as TaskVectorEnv

__getattr__, __dir__ = attach(
    __name__,
    {
        "mtrl.envs.graph": ("task_graph",),
        "mtrl.envs.make": ("backends", "make_vec"),
        "mtrl.envs.specs": ("Suite", "SuiteError", "TaskSpec"),
        "mtrl.envs.suites": ("get_suite", "suite_ids"),
        "mtrl.envs.vector": ("TaskVectorEnv",),
    },
)
