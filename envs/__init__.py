"""Suites and task-major vector environments."""

from envs.specs import Suite, SuiteError, TaskSpec
from envs.vector import TaskVectorEnv

__all__ = ["Suite", "SuiteError", "TaskSpec", "TaskVectorEnv"]
