"""What one byte of a grid means, and the slots of a level's state vector."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# A cell is flag << 7 | color << 4 | kind. Kinds are minigrid's object numbers; open, closed and locked doors differ in
# kind. The flag marks the objects that the mission is about, by identity: it travels with an object that is carried.
EMPTY, WALL_KIND, DOOR, KEY, BALL, BOX, GOAL_KIND, LAVA_KIND, CLOSED, LOCKED = (
    1,
    2,
    4,
    5,
    6,
    7,
    8,
    9,
    11,
    12,
)
RED, GREEN, BLUE, PURPLE, YELLOW, GREY = range(6)
WALL, GOAL, LAVA = WALL_KIND | GREY << 4, GOAL_KIND | GREEN << 4, LAVA_KIND | RED << 4
KIND, PLAIN, FLAG = 0x0F, 0x7F, 0x80

COLORS_BY_NAME = np.array([BLUE, GREEN, GREY, PURPLE, RED, YELLOW], np.int64)
"""minigrid draws colors from the alphabetical list of their names."""

# Slots of the int64 state vector of one level.
X, Y, DIRECTION, CARRIED, STEPS = range(5)
TARGET_X, TARGET_Y, OTHER_X, OTHER_Y, OTHER, CONTENTS = range(5, 11)
"""Two positions, one plain cell and the contents of the level's one filled box; each rule gives them their meaning."""
PREFIX, ARTICLE, COLOR, TYPE, PLACE, ARTICLE_2, COLOR_2, TYPE_2 = range(11, 19)
"""The mission, as numbers; see ``missions``."""
OBSTACLES = 19
"""From here x and y of up to eight moving obstacles."""
STATE_SLOTS = OBSTACLES + 16

# Columns of the task table.
FAMILY, RULE, WIDTH, HEIGHT, HORIZON, SEE_THROUGH, ACTIONS, WORDS, SIZE, COUNT, VARIANT = range(
    11
)
TASK_COLUMNS = 11

BORDER = 6
"""Cells of wall around a grid in memory: the view reaches six cells ahead."""

STEP_X = np.array([1, 0, -1, 0], np.int64)
STEP_Y = np.array([0, 1, 0, -1], np.int64)


def appearance() -> NDArray[np.uint8]:
    """Object, color and state number that minigrid shows for each cell byte, ``[256, 3]``."""
    shown = np.zeros((256, 3), np.uint8)
    for cell in range(256):
        kind = cell & KIND
        door = kind in (CLOSED, LOCKED)
        shown[cell] = (
            DOOR if door else kind,
            (cell & PLAIN) >> 4,
            kind - DOOR - 6 if door else 0,
        )
    return shown


def lookthrough() -> NDArray[np.uint8]:
    """1 for each cell byte that does not block the view, ``[256]``."""
    kinds = np.arange(256) & KIND
    return np.isin(kinds, (WALL_KIND, CLOSED, LOCKED), invert=True).astype(np.uint8)


def visibility() -> NDArray[np.uint16]:
    """Minigrid's shadow casting for one row of the view, ``[128 * 128]``.

    Index: ``seen * 128 + clear``, masks over the row's seven columns of what the row below lights up and of what can be
    looked through. Value: the seen columns, plus those lit up in the next row shifted by seven bits.
    """
    seen, clear = np.divmod(np.arange(128 * 128), 128)
    lit = np.zeros_like(seen)
    for column, towards in [(i, 1) for i in range(6)] + [(i, -1) for i in range(6, 0, -1)]:
        spreads = (seen & clear) >> column & 1
        seen |= spreads << (column + towards)
        lit |= spreads << column | spreads << (column + towards)
    return (seen | lit << 7).astype(np.uint16)
