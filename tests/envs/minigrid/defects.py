"""Plants one defect at a time in the engine's source and says whether the comparison with stock notices it.

Runs as a script without the compiler (``NUMBA_DISABLE_JIT=1``), because compiling every defect would take minutes.
"""

from __future__ import annotations

import importlib
import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[3]
OBJECTS = "mg20"
WORDS = "babyai10"

# file, correct text, wrong text, suite whose comparison must notice, whether goal-directed play is needed.
DEFECTS: list[tuple[str, str, str, str, bool]] = [
    ("rules", "(state[DIRECTION] + 3) % 4", "(state[DIRECTION] + 1) % 4", OBJECTS, False),
    ("rules", "if kind in (EMPTY, DOOR, GOAL_KIND, LAVA_KIND):", "if kind in (EMPTY, DOOR, LAVA_KIND):", OBJECTS, True),
    ("rules", "cell - (LOCKED - DOOR)", "cell - (LOCKED - CLOSED)", OBJECTS, True),
    ("rules", "if KEY <= kind <= BOX and state[CARRIED] == 0:", "if KEY <= kind <= BOX:", WORDS, True),
    ("rules", "if front == EMPTY and state[CARRIED] != 0:", "if state[CARRIED] != 0:", WORDS, True),
    ("rules", "else EMPTY\n", "else cell\n", "babyai1:PickupDist", False),
    ("rules", "(state[STEPS] / task[HORIZON])", "((state[STEPS] - 1) / task[HORIZON])", OBJECTS, True),
    ("rules", "and not (x == state[X] and y == state[Y])", "", "mg1:Dynamic-Obstacles-5x5", False),
    ("rules", "grid[old_y, old_x] = EMPTY", "pass", "mg1:Dynamic-Obstacles-6x6", False),
    ("rules", "before & KIND != GOAL_KIND", "before & KIND == GOAL_KIND", "mg1:Dynamic-Obstacles-6x6", False),
    ("rules", "held == 0 and state[CARRIED] & FLAG != 0", "held == 0 and state[CARRIED] != 0", WORDS, True),
    ("rules", "return state[CARRIED] & FLAG != 0, state[CARRIED] != 0", "return state[CARRIED] & FLAG != 0, False",
     OBJECTS, True),
    ("rules", "for k in range(4):\n        found", "for k in range(1):\n        found", "babyai1:PutNextLocalS5N3",
     True),
    ("rules", "near = abs(x - state[TARGET_X]) <= 1", "near = abs(x - state[TARGET_X]) <= 0", OBJECTS, True),
    ("rules", "wrong or (action == DROP and held != 0)", "wrong or dropped", "mg1:PutNear-6x6-N2", True),
    ("rules", "return blue_open and red_was_open, blue_open", "return blue_open, blue_open", OBJECTS, True),
    ("rules", "state[TARGET_Y]), action >= TOGGLE", "state[TARGET_Y]), action == DONE", OBJECTS, False),
    ("rules", "action = TURN_LEFT\n", "action = TURN_RIGHT\n", "mg10", False),
    ("view", "right_x, right_y = -ahead_y, ahead_x", "right_x, right_y = ahead_y, -ahead_x", OBJECTS, False),
    ("view", "state[CARRIED] if state[CARRIED] != 0 else EMPTY", "EMPTY", WORDS, True),
    ("cells", "(i, -1) for i in range(6, 0, -1)", "(i, -1) for i in range(5, 0, -1)", OBJECTS, False),
    ("cells", "(WALL_KIND, CLOSED, LOCKED), invert", "(WALL_KIND, LOCKED), invert", OBJECTS, False),
    ("rng", "    if high - low == 1:\n        return low\n", "", OBJECTS, False),
    ("rng", "rng[4] = _ONE\n    rng[5] = word >> _S32", "rng[5] = word >> _S32", OBJECTS, False),
    ("grid", "grid[y, x] == EMPTY and distance != 0 and", "grid[y, x] == EMPTY and", OBJECTS, False),
    ("rooms", "or front & KIND == WALL_KIND", "or front & KIND == CLOSED", "mg1:Unlock", False),
    ("rooms", "if rooms[j, i, IS_LOCKED] or", "if", "mg1:KeyCorridorS3R3", False),
    ("levels_plain", "shuffle(rng, path, len(path))", "pass", "mg1:LavaCrossingS9N3", False),
    ("levels_plain", "right = -1 if shown == upper else 1", "right = 1 if shown == upper else -1", OBJECTS, True),
    ("levels_rooms", "if not apart_x and not apart_y:", "if False:", "mg1:MultiRoom-N4-S5", False),
    ("levels_rooms", "drawn += last_color >= 0 and drawn >= last_color", "pass", "mg1:MultiRoom-N4-S5", True),
    ("levels_babyai", "if not objects_reachable(grid, state):", "if False:", WORDS, False),
    ("levels_babyai", "1 if count > 1 else 0", "0", WORDS, False),
    ("missions", "out[at:] = 0", "pass", WORDS, False),
    ("batch", "level[STEPS] >= task[HORIZON]", "level[STEPS] > task[HORIZON]", OBJECTS, False),
    ("batch", "episodes[i] += starting", "pass", OBJECTS, False),
    ("batch", "            obs[i, VIEW_BYTES + 1 :] = missions[i]\n        else", "        else", OBJECTS, False),
]  # fmt: skip


def _import_from(folder: str) -> None:
    """Make the next imports of ours come from ``folder``."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("mtrl", "tests")]:
        del sys.modules[name]
    sys.path[0] = folder
    importlib.invalidate_caches()


def difference(file: str, right: str, wrong: str, suite: str, directed: bool) -> str:
    """What the comparison says of the engine with ``right`` replaced by ``wrong``."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "mtrl").mkdir()
        shutil.copy(ROOT / "mtrl/__init__.py", Path(folder) / "mtrl")
        shutil.copytree(
            ROOT / "envs",
            Path(folder) / "mtrl/envs",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        shutil.copytree(ROOT / "tests/envs/minigrid", Path(folder) / "tests/envs/minigrid")
        source = Path(folder) / "mtrl/envs/minigrid" / f"{file}.py"
        text = source.read_text()
        if right not in text:
            return f"ABSENT: {right!r} does not occur in {file}.py"
        source.write_text(text.replace(right, wrong))
        _import_from(folder)
        compare = importlib.import_module("tests.envs.minigrid.compare")
        envs_per_task = 12 if ":" in suite else 1
        signal.alarm(30)  # a defect may as well loop for ever, or break the engine
        try:
            return str(compare.run(suite, 80, directed, envs_per_task=envs_per_task).difference)
        except Exception as error:
            return repr(error)
        finally:
            signal.alarm(0)


def _give_up(signum: int, frame: object) -> None:
    raise TimeoutError("the engine does not come back")


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, _give_up)
    correct = ("rules", "TURN_LEFT", "TURN_LEFT")
    controls = [
        difference(*correct, suite, directed)
        for suite in (OBJECTS, WORDS)
        for directed in (False, True)
    ]
    print(
        json.dumps(
            {"controls": controls, "defects": [difference(*defect) for defect in DEFECTS]}
        )
    )
