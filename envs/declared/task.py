"""A task of a declared suite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mtrl.envs.specs import TaskSpec


@dataclass(frozen=True)
class DeclaredTask(TaskSpec):
    """A gymnasium environment as a task. ``docs/suites/declared.md`` explains every field.

    Attributes:
        success_return: least undiscounted return of an episode that succeeded; None where ``success_info`` says it.
        success_info: the key of ``info`` that is true at the steps that succeed.
        observation: first entry of the environment's flat observation that the task shows, and the one after the last.
        actions: the environment's own actions, or components of an action, in the order of the suite's.
        make: arguments of ``gymnasium.make``, by name.
    """

    success_return: float | None = None
    success_info: str | None = None
    observation: tuple[int, int] = (0, 0)
    actions: tuple[int, ...] = ()
    make: tuple[tuple[str, Any], ...] = ()

    @property
    def num_features(self) -> int:
        """Entries of the task's observation."""
        return self.observation[1] - self.observation[0]
