"""Suites and task-major vector environments."""

from envs.graph import task_graph
from envs.make import backends, make_vec
from envs.specs import Suite, SuiteError, TaskSpec
from envs.suites import get_suite, suite_ids
from envs.vector import TaskVectorEnv

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
