"""What is known of environments without making one: suites, tasks and their protocol, backends, what agents see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    from mtrl.envs.vector import TaskVectorEnv

VIEW_SIDE = 7  # cells along a side of the view in observations of categories


@dataclass(frozen=True)
class TaskSpec:
    """One task of a suite.

    Attributes:
        name: public name, used in result files and log keys (``reach-v3``, ``DoorKey-6x6``).
        env_id: id under which the stock package knows the task.
        horizon: number of steps after which an episode is truncated.
        skill: one line on what the task asks for.
        num_actions: for discrete tasks, how many of the suite's actions the task has; the surplus is masked.
        builds_on: names of the tasks whose skills it needs most of and adds something to, for curricula that follow a
            task graph (MRCL). No benchmark publishes a graph; this one is our own.
        groups: names of the groups that it belongs to, over which ``evaluate`` gives means as well.
    """

    name: str
    env_id: str
    horizon: int
    skill: str = ""
    num_actions: int | None = None
    builds_on: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Backend:
    """An engine that runs the suites of a family.

    Attributes:
        module: offers ``make(suite, settings) -> TaskVectorEnv`` and ``OPTIONS``, the settings it has beyond the common
            ones. Imported when the first environment is made.
        reward_versions: those that it has; empty for all of its family's.
    """

    module: str
    reward_versions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Suite:
    """An ordered set of tasks with one observation and action space and one evaluation protocol.

    Attributes:
        id: the id users type, which carries the reward version (``mt10`` is V2, ``mt10-v1`` the old rewards).
        family: ``metaworld``, ``minigrid`` or ``declared``; only ``envs`` may branch on it.
        tasks: tasks in the order of the published benchmark. The position is the ``task_id``.
        reward_version: ``v2`` or ``v1`` for Meta-World, ``stock`` for MiniGrid, ``own`` for declared environments.
        success: ``any-step`` (success true at any step of the episode) or ``terminated-positive`` (the episode
            terminated with reward > 0).
        goals: where the variation of a task comes from, in words, for the record.
        discrete: whether actions are discrete.
        level_pool: how many different levels of each task training draws from. Evaluation plays levels outside of this
            pool. None where every training episode draws a new level.
        measures: what a success rate says, in words, where that does not follow from the fields above.
        declaration: of a suite that a file declares, all of it as JSON; None for the suites that ship.
    """

    id: str
    family: str
    tasks: tuple[TaskSpec, ...]
    reward_version: str
    success: str
    goals: str
    discrete: bool = False
    level_pool: int | None = None
    measures: str = ""
    declaration: str | None = None

    @property
    def num_tasks(self) -> int:
        return len(self.tasks)

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(task.name for task in self.tasks)

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Names of the tasks of each group, in order of appearance."""
        names = dict.fromkeys(group for task in self.tasks for group in task.groups)
        return {
            group: tuple(task.name for task in self.tasks if group in task.groups)
            for group in names
        }

    @property
    def horizon(self) -> int:
        """Longest horizon among the tasks, in steps."""
        return max(task.horizon for task in self.tasks)


class GridLayout(NamedTuple):
    """Categories of one observation row, uint8: a view of 7 x 7 cells (object, color, state), direction, mission.

    Attributes:
        words: length of the mission in token ids (0 is padding); 0 where missions say no more than the task.
        vocabulary: number of token ids, padding included.
    """

    objects: int
    colors: int
    states: int
    directions: int
    words: int
    vocabulary: int

    @property
    def num_bytes(self) -> int:
        return VIEW_SIDE * VIEW_SIDE * 3 + 1 + self.words

    @property
    def cell(self) -> int:
        """Columns of one cell's code: object, color and state, one-hot each."""
        return self.objects + self.colors + self.states

    def sizes(self) -> tuple[int, ...]:
        """Number of categories of each byte."""
        view = (self.objects, self.colors, self.states) * (VIEW_SIDE * VIEW_SIDE)
        return (*view, self.directions, *[self.vocabulary] * self.words)


@dataclass(frozen=True)
class EnvSpec:
    """What an agent needs to know of an environment to build its networks.

    Attributes:
        action_low, action_high: bounds of continuous actions; empty for discrete ones.
        num_actions: of each task, for discrete actions; a task may have fewer than the suite, the surplus is masked.
        grid: for observations of categories, the fields of their ``GridLayout``; empty for numbers.
        builds_on: of each task, the names of the tasks that it builds on directly; empty where none is known.
    """

    suite: str
    task_names: tuple[str, ...]
    obs_dim: int
    action_low: tuple[float, ...] = ()
    action_high: tuple[float, ...] = ()
    num_actions: tuple[int, ...] = ()
    grid: tuple[int, ...] = ()
    builds_on: tuple[tuple[str, ...], ...] = ()

    @property
    def layout(self) -> GridLayout | None:
        """Layout of observations of categories; None for numbers."""
        return GridLayout(*self.grid) if self.grid else None

    @property
    def num_tasks(self) -> int:
        return len(self.task_names)

    @property
    def discrete(self) -> bool:
        return bool(self.num_actions)

    @property
    def action_dim(self) -> int:
        """Components of a continuous action, or the number of discrete actions."""
        return max(self.num_actions, default=len(self.action_low))

    @classmethod
    def of(cls, env: TaskVectorEnv) -> Self:
        """The specification of an environment with flat observations, and actions in a flat Box or Discrete."""
        # Imported here, where an environment has loaded them already: listing suites has to be quick.
        from gymnasium.spaces import Discrete

        suite = env.suite
        observations: Any = env.single_observation_space
        actions: Any = env.single_action_space
        layout = getattr(env, "obs_layout", None)
        common: dict[str, Any] = {
            "suite": suite.id,
            "task_names": suite.task_names,
            "obs_dim": observations.shape[0],
            "grid": () if layout is None else tuple(layout.grid),
            "builds_on": tuple(task.builds_on for task in suite.tasks),
        }
        if isinstance(actions, Discrete):
            counts = tuple(task.num_actions or int(actions.n) for task in suite.tasks)
            return cls(**common, num_actions=counts)
        low, high = tuple(actions.low.tolist()), tuple(actions.high.tolist())
        return cls(**common, action_low=low, action_high=high)

    @classmethod
    def of_json(cls, fields: Mapping[str, Any]) -> Self:
        """From ``dataclasses.asdict`` of a specification that went through JSON, which has lists for tuples."""
        return cls(**{name: _as_tuple(value) for name, value in fields.items()})


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def task_graph(
    task_names: Sequence[str], builds_on: Sequence[Sequence[str]]
) -> list[list[bool]]:
    """``[T][T]``, True at ``[t][j]`` where task t builds directly on task j.

    Args:
        builds_on: of each task, the names of those that it builds on, among ``task_names`` or not; empty where none is
            known.
    """
    known = builds_on or [()] * len(task_names)
    return [[other in names for other in task_names] for names in known]


def task_depths(
    task_names: Sequence[str], builds_on: Sequence[Sequence[str]]
) -> tuple[int, ...]:
    """The length of each task's longest chain in the graph: the tasks it builds on, one after the other.

    Args:
        builds_on: as of ``task_graph``.
    """
    graph = task_graph(task_names, builds_on)
    depths = [0] * len(graph)
    # A chain has at most T tasks, and each pass lengthens those that are not yet complete.
    for _ in graph:
        for task, needs in enumerate(graph):
            below = [depths[other] + 1 for other, needed in enumerate(needs) if needed]
            depths[task] = max(below, default=0)
    return tuple(depths)
