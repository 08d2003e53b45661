"""Suites and task-major vector environments."""

from mtrl.envs.graph import task_graph
from mtrl.envs.make import backends, make_vec
from mtrl.envs.specs import Suite, SuiteError, TaskSpec
from mtrl.envs.suites import get_suite, suite_ids
from mtrl.envs.vector import TaskVectorEnv

__all__ = [
    "Suite",
    "SuiteError",
    "TaskSpec",
    "TaskVectorEnv",
    "backends",
    "get_suite",
    "make_vec",
    "suite_ids",
    "task_graph",
]
