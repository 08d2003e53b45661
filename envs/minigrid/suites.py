"""The MiniGrid suites: published sets in their published order, and two wider ones.

``mg3``, ``mg5``, ``mg7`` are MOORE's sets (Hendawy et al., ICLR 2024). ``camrl-minigrid`` holds CAMRL's nine tasks
(Huang et al., TPAMI 2023). ``doorkey2`` holds one task twice: acting at random often solves the smaller room and hardly
ever the larger one, so an agent for the latter gains from the former. ``mg10`` and ``mg20`` widen mg7 to a spread of
MiniGrid skills; ``babyai10`` gives missions in words, from facing the only ball of its color to unlocking a door.
``mg7-held-out`` and its like hold the tasks of ``mg7`` and the others; there training draws from a fixed pool of levels
and evaluation plays levels outside of it, which measures generalisation. Elsewhere evaluation has level seeds that
training never uses, but small tasks have few levels, most of which training has seen.
``mg1:<name>`` and ``babyai1:<name>`` are single tasks, for references. What each task asks for, its horizon and when it
counts as solved stand in ``tasks``.
"""

from __future__ import annotations

from mtrl.envs.minigrid.tasks import TASKS, GridTask
from mtrl.envs.specs import Backend, Suite

BACKENDS = {
    "native": Backend("mtrl.envs.minigrid.native"),
    "stock": Backend("mtrl.envs.minigrid.stock"),
}

_MG5 = ("DoorKey-6x6", "LavaGapS7", "RedBlueDoors-6x6", "DistShift1", "MemoryS11")
_MG7 = (
    "DoorKey-6x6", "DistShift1", "RedBlueDoors-6x6", "LavaGapS7", "MemoryS11", "SimpleCrossingS9N2", "MultiRoom-N2-S4",
)  # fmt: skip
_MG10 = (*_MG7, "Dynamic-Obstacles-6x6", "GoToDoor-6x6", "KeyCorridorS3R1")

MINIGRID_SUITES: dict[str, tuple[str, ...]] = {
    "mg3": ("LavaGapS7", "RedBlueDoors-6x6", "MemoryS11"),
    "mg5": _MG5,
    "mg7": _MG7,
    "mg10": _MG10,
    "mg20": (
        *_MG10, "Fetch-6x6-N2", "PutNear-6x6-N2", "GoToObject-6x6-N2", "Unlock", "UnlockPickup", "BlockedUnlockPickup",
        "LavaCrossingS9N1", "FourRooms", "ObstructedMaze-1Dl", "KeyCorridorS3R2",
    ),
    "camrl-minigrid": (
        "DistShift1", "DoorKey-16x16", "Dynamic-Obstacles-16x16", "Empty-16x16", "Fetch-8x8-N3", "KeyCorridorS3R3",
        "LavaCrossingS9N3", "LavaGapS7", "MemoryS17Random",
    ),
    "doorkey2": ("DoorKey-6x6", "DoorKey-8x8"),
    "babyai10": (
        "GoToRedBallGrey", "GoToLocalS5N2", "GoToLocal", "GoToDoor", "OpenRedDoor", "OpenDoorColor", "PickupDist",
        "PickupLoc", "PutNextLocalS5N3", "UnlockLocal",
    ),
}  # fmt: skip
"""Task names of each suite, in order. All are ``MiniGrid-<name>-v0``, those of babyai10 ``BabyAI-<name>-v0``."""


POOL = 256
"""Levels of each task that training draws from in the suites ``...-held-out``."""
_DRAWN = "a level drawn per episode; seeds of training levels lie below 2**30, of evaluation levels above"
_HELD_OUT = (
    f"training draws from a fixed pool of {POOL} different levels a task, or half of those that a task has where they "
    f"are fewer than {2 * POOL}; evaluation plays levels outside the pool (a task with a single level plays that one)"
)


def _suite(suite_id: str, tasks: list[GridTask], level_pool: int | None = None) -> Suite:
    return Suite(
        id=suite_id,
        family="minigrid",
        tasks=tuple(task.spec for task in tasks),
        reward_version="stock",
        success="terminated-positive",
        goals=_DRAWN if level_pool is None else _HELD_OUT,
        discrete=True,
        level_pool=level_pool,
    )


def _all_suites() -> dict[str, Suite]:
    suites = {}
    for suite_id, names in MINIGRID_SUITES.items():
        package = "BabyAI" if suite_id.startswith("babyai") else "MiniGrid"
        tasks = [TASKS[f"{package}-{name}-v0"] for name in names]
        suites[suite_id] = _suite(suite_id, tasks)
        held_out = f"{suite_id}-held-out"
        suites[held_out] = _suite(held_out, tasks, POOL)
    for task in TASKS.values():
        kind = "mg1" if task.env_id.startswith("MiniGrid") else "babyai1"
        suites[f"{kind}:{task.name}"] = _suite(f"{kind}:{task.name}", [task])
    return suites


SUITES = _all_suites()


def prepare(render: bool) -> None:
    """Nothing has to be done before minigrid is imported."""
