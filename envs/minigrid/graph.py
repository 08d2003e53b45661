"""Which MiniGrid and BabyAI tasks build on which.

Reaching a goal in an empty room comes first; lava, moving obstacles, keys and missions each add one thing to it.
"""

from __future__ import annotations

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
}
"""By name, the tasks that each task builds on directly."""
