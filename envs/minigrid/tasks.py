"""Every MiniGrid and BabyAI id that both backends know: shape, horizon, skill, and what success is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mtrl.envs.minigrid import families as f
from mtrl.envs.minigrid.graph import BUILDS_ON
from mtrl.envs.specs import TaskSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class GridTask:
    """One id.

    Attributes:
        env_id: id in minigrid's registry.
        family, rule: level generator and reward rule, numbers from ``families``.
        width, height: grid size in cells, outer walls included.
        horizon: minigrid's own step limit.
        skill: what the task asks for and when an episode counts as solved.
        see_through: whether walls hide nothing.
        actions: how many of the seven actions the task has.
        words: most words of a mission, 0 where the mission says no more than the id.
        size, count, variant: numbers for the generator.
    """

    env_id: str
    family: int
    rule: int
    width: int
    height: int
    horizon: int
    skill: str
    see_through: bool = False
    actions: int = 7
    words: int = 0
    size: int = 0
    count: int = 0
    variant: int = 0

    @property
    def name(self) -> str:
        """The id without ``MiniGrid-`` or ``BabyAI-`` and without the version if that is v0."""
        return self.env_id.split("-", 1)[1].removesuffix("-v0")

    @property
    def spec(self) -> TaskSpec:
        return TaskSpec(
            self.name,
            self.env_id,
            self.horizon,
            self.skill,
            self.actions if self.actions < 7 else None,
            BUILDS_ON.get(self.name, ()),
        )

    def row(self) -> NDArray[np.int64]:
        """The task's line in the table of the compiled engine, in the order of ``cells``."""
        import numpy as np

        line = (
            self.family,
            self.rule,
            self.width,
            self.height,
            self.horizon,
            self.see_through,
            self.actions,
        )
        return np.array([*line, self.words, self.size, self.count, self.variant], np.int64)


def _square(
    name: str, family: int, rule: int, size: int, horizon: int, skill: str, **more: int
) -> GridTask:
    settings = {"size": size, **more}
    return GridTask(f"MiniGrid-{name}-v0", family, rule, size, size, horizon, skill, **settings)  # type: ignore[arg-type]


def _rooms(
    env_id: str,
    family: int,
    rule: int,
    side: int,
    rows: int,
    columns: int,
    horizon: int,
    skill: str,
    **more: int,
) -> GridTask:
    width, height = columns * (side - 1) + 1, rows * (side - 1) + 1
    settings = {"size": side, **more}
    return GridTask(env_id, family, rule, width, height, horizon, skill, **settings)  # type: ignore[arg-type]


def _one_space() -> list[GridTask]:
    """Goals, lava, obstacles and memory in one space."""
    tasks = []
    goal = "solved on reaching the green goal"
    for size in (5, 6, 8, 16):
        skill = f"walk across an empty room; {goal}"
        tasks.append(
            _square(
                f"Empty-{size}x{size}",
                f.EMPTY_ROOM,
                f.REACH_GOAL,
                size,
                4 * size**2,
                skill,
                see_through=1,
            )
        )
    for size in (5, 6):
        name, skill = (
            f"Empty-Random-{size}x{size}",
            f"find the goal from a random start; {goal}",
        )
        tasks.append(
            _square(
                name,
                f.EMPTY_ROOM,
                f.REACH_GOAL,
                size,
                4 * size**2,
                skill,
                see_through=1,
                variant=1,
            )
        )
    for number, row in ((1, 2), (2, 5)):
        skill = f"go around two strips of lava; {goal}, lava ends the episode"
        env_id, shape = f"MiniGrid-DistShift{number}-v0", (9, 7, 4 * 9 * 7)
        tasks.append(
            GridTask(
                env_id, f.DIST_SHIFT, f.REACH_GOAL, *shape, skill, see_through=True, variant=row
            )
        )
    for size in (5, 6, 7):
        skill = f"find the gap in a wall of lava; {goal}, lava ends the episode"
        tasks.append(
            _square(f"LavaGapS{size}", f.LAVA_GAP, f.REACH_GOAL, size, 4 * size**2, skill)
        )
    for kind, variant, what in (("Lava", 0, "rivers of lava"), ("Simple", 1, "walls")):
        for size, count in ((9, 1), (9, 2), (9, 3), (11, 5)):
            name, skill = (
                f"{kind}CrossingS{size}N{count}",
                f"find the openings through {count} {what}; {goal}",
            )
            skill += ", lava ends the episode" if variant == 0 else ""
            tasks.append(
                _square(
                    name,
                    f.CROSSING,
                    f.REACH_GOAL,
                    size,
                    4 * size**2,
                    skill,
                    count=count,
                    variant=variant,
                )
            )
    tasks.append(
        _square(
            "FourRooms",
            f.FOUR_ROOMS,
            f.REACH_GOAL,
            19,
            100,
            f"search four joined rooms; {goal}",
        )
    )
    for size in (5, 6, 8, 16):
        skill = f"take the key, unlock the door, go through; {goal}"
        tasks.append(
            _square(
                f"DoorKey-{size}x{size}", f.DOOR_KEY, f.REACH_GOAL, size, 10 * size**2, skill
            )
        )
    for size, length in ((17, "Random"), (13, "Random"), (13, ""), (11, ""), (9, ""), (7, "")):
        skill = (
            "remember the object in the first room; "
            "solved on stopping beside its equal, the other one ends the episode"
        )
        random = int(length == "Random")
        tasks.append(
            _square(
                f"MemoryS{size}{length}",
                f.MEMORY,
                f.MATCH,
                size,
                5 * size**2,
                skill,
                variant=random,
            )
        )
    return tasks


def _moving_and_doors() -> list[GridTask]:
    tasks = []
    for size in (6, 8):
        skill = "open the red door, then the blue one; solved when both are open, blue first ends the episode"
        shape = (2 * size, size, 20 * size**2)
        env_id = f"MiniGrid-RedBlueDoors-{size}x{size}-v0"
        tasks.append(GridTask(env_id, f.RED_BLUE_DOORS, f.TWO_DOORS, *shape, skill, size=size))
    for name, size, count, random in (
        ("5x5", 5, 2, 0), ("Random-5x5", 5, 2, 1), ("6x6", 6, 3, 0), ("Random-6x6", 6, 3, 1), ("8x8", 8, 4, 0),
        ("16x16", 16, 8, 0),
    ):  # fmt: skip
        skill = "reach the goal among moving balls; solved on the goal, walking into a ball or wall ends it with -1"
        tasks.append(
            _square(
                f"Dynamic-Obstacles-{name}", f.DYNAMIC_OBSTACLES, f.AVOID, size, 4 * size**2, skill,
                see_through=1, actions=3, count=count, variant=random,
            )
        )  # fmt: skip
    return tasks


def _objects() -> list[GridTask]:
    """Missions about objects in one room."""
    tasks = []
    for size, count in ((5, 2), (6, 2), (8, 3)):
        skill = "pick up the object of the mission; solved on holding it, any other one ends the episode"
        name = f"Fetch-{size}x{size}-N{count}"
        tasks.append(
            _square(
                name,
                f.FETCH,
                f.TAKE,
                size,
                5 * size**2,
                skill,
                see_through=1,
                words=6,
                count=count,
            )
        )
    for size in (5, 6, 8):
        skill = "go to the door of the mission; solved by the done action beside it, done elsewhere or toggle ends it"
        name = f"GoToDoor-{size}x{size}"
        tasks.append(
            _square(
                name,
                f.GO_TO_DOOR,
                f.DONE_BESIDE,
                size,
                4 * size**2,
                skill,
                see_through=1,
                words=5,
            )
        )
    for size in (6, 8):
        skill = "go to the object of the mission; solved by the done action beside it, done elsewhere or toggle ends it"
        name, more = f"GoToObject-{size}x{size}-N2", {"see_through": 1, "words": 5, "count": 2}
        tasks.append(
            _square(name, f.GO_TO_OBJECT, f.DONE_BESIDE, size, 5 * size**2, skill, **more)
        )
    for size, count in ((6, 2), (8, 3)):
        skill = "drop one object beside another; solved there, a wrong object or a drop elsewhere ends the episode"
        name, more = (
            f"PutNear-{size}x{size}-N{count}",
            {"see_through": 1, "words": 8, "count": count, "variant": 1},
        )
        tasks.append(_square(name, f.PUT_NEAR, f.DROP_NEAR, size, 5 * size, skill, **more))
    return tasks


def _several_rooms() -> list[GridTask]:
    tasks = []
    for side, rows in ((3, 1), (3, 2), (3, 3), (4, 3), (5, 3), (6, 3)):
        env_id = f"MiniGrid-KeyCorridorS{side}R{rows}-v0"
        skill = "search the rooms of a corridor for the key to the locked one; solved on picking up the ball in it"
        shape = (side, rows, 3, 30 * side**2)
        tasks.append(
            _rooms(
                env_id, f.KEY_CORRIDOR, f.PICK_UP_FLAGGED, *shape, skill, words=5, count=rows
            )
        )
    unlock = "take the key and unlock the door"
    tasks += [
        _rooms("MiniGrid-Unlock-v0", f.UNLOCK, f.OPEN_FLAGGED, 6, 1, 2, 288, f"{unlock}; solved when it is open"),
        _rooms(
            "MiniGrid-UnlockPickup-v0", f.UNLOCK, f.PICK_UP_FLAGGED, 6, 1, 2, 288,
            f"{unlock}; solved on picking up the box behind it", words=5, variant=1,
        ),
        _rooms(
            "MiniGrid-BlockedUnlockPickup-v0", f.UNLOCK, f.PICK_UP_FLAGGED, 6, 1, 2, 576,
            f"clear a ball out of the way, {unlock}; solved on picking up the box behind it", words=5, variant=2,
        ),
    ]  # fmt: skip
    boxed = "find the key in a box"
    for letters, variant, what in (
        ("l", 0, "take the key"),
        ("lh", 1, boxed),
        ("lhb", 2, f"{boxed}, clear the way"),
    ):
        env_id = f"MiniGrid-ObstructedMaze-1D{letters}-v0"
        skill = f"{what}, unlock the door; solved on picking up the blue ball behind it"
        tasks.append(
            _rooms(
                env_id,
                f.OBSTRUCTED_MAZE,
                f.PICK_UP_FLAGGED,
                6,
                1,
                2,
                288,
                skill,
                variant=variant,
            )
        )
    for name, count, largest in (
        ("N2-S4-v0", 2, 4),
        ("N4-S5-v0", 6, 5),
        ("N4-S5-v1", 4, 5),
        ("N6-v0", 6, 10),
    ):
        skill = f"open the doors of {count} rooms in a row; solved on reaching the green goal in the last"
        row = GridTask(
            f"MiniGrid-MultiRoom-{name}", f.MULTI_ROOM, f.REACH_GOAL, 25, 25, 20 * count, skill
        )
        tasks.append(replace(row, size=largest, count=count))
    return tasks


def _babyai() -> list[GridTask]:
    tasks = []
    local, facing = f.BABYAI_GO_TO_LOCAL, f.FACE_FLAGGED
    for name, variant, count, what in (
        ("GoToRedBallGrey", 2, 7, "go to the red ball among grey objects"),
        ("GoToRedBall", 1, 7, "go to a red ball among colored objects"),
        ("GoToRedBallNoDists", 1, 0, "go to the red ball in an empty room"),
    ):
        skill = f"{what}; solved on facing it"
        tasks.append(
            _rooms(
                f"BabyAI-{name}-v0",
                local,
                facing,
                8,
                1,
                1,
                64,
                skill,
                count=count,
                variant=variant,
            )
        )
    skill = "go to the red or the blue ball, as the mission says; solved on facing it"
    tasks.append(
        _rooms(
            "BabyAI-GoToRedBlueBall-v0",
            local,
            facing,
            8,
            1,
            1,
            64,
            skill,
            words=5,
            count=7,
            variant=3,
        )
    )
    for name, side, count in (
        ("GoToObj", 8, 1), ("GoToObjS4", 4, 1), ("GoToLocal", 8, 8), ("GoToLocalS5N2", 5, 2),
        ("GoToLocalS6N2", 6, 2), ("GoToLocalS6N3", 6, 3), ("GoToLocalS6N4", 6, 4), ("GoToLocalS7N4", 7, 4),
        ("GoToLocalS7N5", 7, 5), ("GoToLocalS8N2", 8, 2), ("GoToLocalS8N3", 8, 3), ("GoToLocalS8N4", 8, 4),
        ("GoToLocalS8N5", 8, 5), ("GoToLocalS8N6", 8, 6), ("GoToLocalS8N7", 8, 7),
    ):  # fmt: skip
        skill = "go to the object of the mission; solved on facing one that fits"
        tasks.append(
            _rooms(
                f"BabyAI-{name}-v0",
                local,
                facing,
                side,
                1,
                1,
                side**2,
                skill,
                words=5,
                count=count,
            )
        )
    tasks += [
        _rooms(
            "BabyAI-PickupDist-v0", f.BABYAI_PICKUP_DISTRACTOR, f.PICK_UP_FLAGGED, 7, 1, 1, 49,
            "pick up an object given by color, type or both; solved on picking up one that fits", words=5, count=5,
        ),
        _rooms(
            "BabyAI-PickupLoc-v0", f.BABYAI_PICKUP_BY_PLACE, f.PICK_UP_FLAGGED, 8, 1, 1, 64,
            "pick up an object given by its place, too; solved on picking up one that fits", words=9, count=8,
        ),
    ]  # fmt: skip
    for name, side, count in (
        ("PutNextLocal", 8, 8),
        ("PutNextLocalS5N3", 5, 3),
        ("PutNextLocalS6N4", 6, 4),
    ):
        skill = "put one object next to another; solved on dropping it there"
        shape = (side, 1, 1, 2 * side**2)
        family = f.BABYAI_PUT_NEXT_LOCAL
        tasks.append(
            _rooms(
                f"BabyAI-{name}-v0", family, f.DROP_NEXT_TO, *shape, skill, words=9, count=count
            )
        )
    for name, side, rows, columns, rule, words, variant, skill in (
        (
            "GoToDoor",
            7,
            3,
            3,
            facing,
            5,
            0,
            "go to the door of the mission's color; solved on facing one",
        ),
        (
            "OpenRedDoor",
            5,
            1,
            2,
            f.OPEN_FLAGGED,
            0,
            1,
            "open the red door; solved when it is open",
        ),
        (
            "OpenDoorColor",
            8,
            3,
            3,
            f.OPEN_FLAGGED,
            4,
            2,
            "open the door of the mission's color; solved when it is open",
        ),
        (
            "UnlockLocal",
            8,
            3,
            3,
            f.OPEN_FLAGGED,
            0,
            3,
            "take the key and unlock the door; solved when it is open",
        ),
    ):
        shape = (side, rows, columns, side**2 * rows * columns)
        more = {"words": words, "variant": variant}
        tasks.append(_rooms(f"BabyAI-{name}-v0", f.BABYAI_DOORS, rule, *shape, skill, **more))
    return tasks


TASKS = {
    task.env_id: task
    for task in [
        *_one_space(),
        *_moving_and_doors(),
        *_objects(),
        *_several_rooms(),
        *_babyai(),
    ]
}
"""All known tasks by id."""
