"""What a suite is: its tasks, their order, and the protocol its numbers are reported under."""

from __future__ import annotations

from dataclasses import dataclass


class SuiteError(ValueError):
    """A suite, task, backend or environment setting that does not exist; the message names what is allowed."""


@dataclass(frozen=True)
class TaskSpec:
    """One task of a suite.

    Attributes:
        name: public name, used in result files and log keys (``reach-v3``, ``DoorKey-6x6``).
        env_id: id under which the stock package knows the task.
        horizon: number of steps after which an episode is truncated.
        skill: one line on what the task asks for.
        num_actions: for discrete tasks, how many of the suite's actions the task has; the surplus is masked.
    """

    name: str
    env_id: str
    horizon: int
    skill: str = ""
    num_actions: int | None = None


@dataclass(frozen=True)
class Suite:
    """An ordered set of tasks with one observation and action space and one evaluation protocol.

    Attributes:
        id: the id users type, which carries the reward version (``mt10`` is V2, ``mt10-v1`` the old rewards).
        family: ``metaworld`` or ``minigrid``; only ``envs`` may branch on it.
        tasks: tasks in the order of the published benchmark. The position is the ``task_id``.
        reward_version: ``v2`` or ``v1`` for Meta-World, ``stock`` for MiniGrid.
        success: ``any-step`` (success true at any step of the episode) or ``terminated-positive`` (the episode
            terminated with reward > 0).
        goals: where the variation of a task comes from, in words, for the record.
        discrete: whether actions are discrete.
    """

    id: str
    family: str
    tasks: tuple[TaskSpec, ...]
    reward_version: str
    success: str
    goals: str
    discrete: bool = False

    @property
    def num_tasks(self) -> int:
        return len(self.tasks)

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(task.name for task in self.tasks)

    @property
    def horizon(self) -> int:
        """Longest horizon among the tasks, in steps."""
        return max(task.horizon for task in self.tasks)
