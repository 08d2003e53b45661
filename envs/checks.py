"""Checks of single values that environments and agents share."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np


def as_integer(value: Any) -> int | None:
    """``value`` as an int if it is an integer of any kind, such as ``np.int64(2)``; None for all else, bools included.

    A bool is refused because ``True`` where a count belongs is a mistake.
    """
    if isinstance(value, bool | np.bool_):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None
