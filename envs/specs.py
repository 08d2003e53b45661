"""Suites and tasks: the tasks' order and the protocol that numbers are reported under."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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
        family: ``metaworld`` or ``minigrid``; only ``envs`` may branch on it.
        tasks: tasks in the order of the published benchmark. The position is the ``task_id``.
        reward_version: ``v2`` or ``v1`` for Meta-World, ``stock`` for MiniGrid.
        success: ``any-step`` (success true at any step of the episode) or ``terminated-positive`` (the episode
            terminated with reward > 0).
        goals: where the variation of a task comes from, in words, for the record.
        discrete: whether actions are discrete.
        level_pool: different levels of each task that training draws from, all that it ever sees, with evaluation on
            levels outside; None where every episode of training draws a level anew.
    """

    id: str
    family: str
    tasks: tuple[TaskSpec, ...]
    reward_version: str
    success: str
    goals: str
    discrete: bool = False
    level_pool: int | None = None

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


# Curricula that follow a task graph (MRCL) read it here. A task stands with the tasks whose skills it needs most of and
# adds something to. MiniGrid: reaching a goal in an empty room comes first; lava, moving obstacles, keys and missions
# each add one thing to it. Meta-World: reaching comes first, then pushing or pressing, then grasping, then using what
# is grasped; opening needs more than closing. The graph is this suite's own: neither benchmark publishes one.
BUILDS_ON: dict[str, tuple[str, ...]] = {
    # MiniGrid
    "DistShift1": ("Empty-16x16",),
    "LavaGapS7": ("DistShift1", "SimpleCrossingS9N2", "Empty-16x16"),
    "LavaCrossingS9N1": ("LavaGapS7", "SimpleCrossingS9N2"),
    "LavaCrossingS9N3": ("LavaGapS7", "DistShift1", "SimpleCrossingS9N2"),
    "SimpleCrossingS9N2": ("Empty-16x16",),
    "FourRooms": ("SimpleCrossingS9N2", "Empty-16x16"),
    "Dynamic-Obstacles-6x6": ("Empty-16x16",),
    "Dynamic-Obstacles-16x16": ("Empty-16x16",),
    "DoorKey-6x6": ("Empty-16x16",),
    "DoorKey-8x8": ("DoorKey-6x6",),
    "DoorKey-16x16": ("Empty-16x16", "DoorKey-6x6"),
    "RedBlueDoors-6x6": ("DoorKey-6x6",),
    "MultiRoom-N2-S4": ("DoorKey-6x6",),
    "Unlock": ("DoorKey-6x6",),
    "UnlockPickup": ("Unlock", "Fetch-6x6-N2"),
    "BlockedUnlockPickup": ("UnlockPickup",),
    "Fetch-6x6-N2": ("Empty-16x16",),
    "Fetch-8x8-N3": ("Empty-16x16", "Fetch-6x6-N2"),
    "GoToObject-6x6-N2": ("Fetch-6x6-N2",),
    "PutNear-6x6-N2": ("GoToObject-6x6-N2", "Fetch-6x6-N2"),
    "GoToDoor-6x6": ("Empty-16x16",),
    "KeyCorridorS3R1": ("DoorKey-6x6", "Fetch-6x6-N2"),
    "KeyCorridorS3R2": ("KeyCorridorS3R1",),
    "KeyCorridorS3R3": ("KeyCorridorS3R2", "DoorKey-16x16", "Fetch-8x8-N3"),
    "ObstructedMaze-1Dl": ("UnlockPickup", "KeyCorridorS3R1"),
    "MemoryS11": ("SimpleCrossingS9N2",),
    "MemoryS17Random": ("Empty-16x16", "MemoryS11"),
    # BabyAI
    "GoToLocalS5N2": ("GoToRedBallGrey",),
    "GoToLocal": ("GoToLocalS5N2",),
    "OpenDoorColor": ("OpenRedDoor",),
    "PickupDist": ("GoToLocal",),
    "PickupLoc": ("PickupDist",),
    "PutNextLocalS5N3": ("PickupLoc",),
    "UnlockLocal": ("OpenDoorColor", "PickupDist"),
    # Meta-World
    "push-v3": ("reach-v3",),
    "pick-place-v3": ("push-v3", "reach-v3"),
    "door-open-v3": ("reach-v3",),
    "drawer-close-v3": ("reach-v3",),
    "drawer-open-v3": ("drawer-close-v3",),
    "button-press-topdown-v3": ("reach-v3",),
    "peg-insert-side-v3": ("pick-place-v3",),
    "window-close-v3": ("reach-v3",),
    "window-open-v3": ("reach-v3",),
}
"""Tasks that each task builds on directly."""


def task_graph(task_names: Sequence[str]) -> list[list[bool]]:
    """``[T][T]``, True at ``[t][j]`` where task t builds directly on task j; both among ``task_names``."""
    return [[other in BUILDS_ON.get(name, ()) for other in task_names] for name in task_names]


def task_depths(task_names: Sequence[str]) -> tuple[int, ...]:
    """How many of ``task_names`` each of them builds on, one on top of the other: its longest chain in the graph."""
    graph = task_graph(task_names)
    depths = [0] * len(graph)
    # A chain has at most T tasks, and each pass lengthens those that are not yet complete.
    for _ in graph:
        for task, needs in enumerate(graph):
            below = [depths[other] + 1 for other, needed in enumerate(needs) if needed]
            depths[task] = max(below, default=0)
    return tuple(depths)
