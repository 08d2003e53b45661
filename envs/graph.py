"""Which tasks build on which: the skills that a task asks for beyond those of an easier one.

Curricula that follow a task graph (MRCL) read it here. A task stands with the tasks whose skills it needs most of and
adds something to. MiniGrid: reaching a goal in an empty room comes first; lava, moving obstacles, keys and missions
each add one thing to it. Meta-World: reaching comes first, then pushing or pressing, then grasping, then using what is
grasped; opening needs more than closing. The graph is this suite's own: neither benchmark publishes one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

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


def task_graph(task_names: Sequence[str]) -> NDArray[np.bool_]:
    """``[T, T]``, True at ``[t, j]`` where task t builds directly on task j; both among ``task_names``."""
    place = {name: index for index, name in enumerate(task_names)}
    edges = np.zeros((len(place), len(place)), dtype=bool)
    for name, index in place.items():
        for other in BUILDS_ON.get(name, ()):
            if other in place:
                edges[index, place[other]] = True
    return edges
