"""Errors that a user can act on, the nearest right name, and checks of single values; shared by all packages."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable
from typing import Any


class UserError(Exception):
    """An error the user can act on. The message is one sentence; ``exit_status`` is that of the command it ends."""

    exit_status = 2


class SuiteError(UserError, ValueError):
    """A suite, task, backend or environment setting that does not exist; the message names what is allowed."""


def nearest(word: str, known: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The known name most like ``word``, whatever its case; None if none is like it.

    Of dotted names (settings) one with the same last part comes first, then the most similar spelling of the whole,
    then of the last part.

    Args:
        cutoff: least similarity, from 0 (anything) to 1.
    """
    names = list(known)
    tail = _tail(word)
    same_tail = [name for name in names if _tail(name).lower() == tail.lower()]
    if same_tail:
        return min(same_tail, key=len)
    whole = {name.lower(): name for name in reversed(names)}
    tails = {_tail(name).lower(): name for name in reversed(names)}
    for spelled, candidates in ((word, whole), (tail, tails)):
        close = difflib.get_close_matches(spelled.lower(), candidates, n=1, cutoff=cutoff)
        if close:
            return candidates[close[0]]
    return None


def _tail(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def choices(word: str, allowed: Iterable[str]) -> str:
    """The end of a sentence about an unknown ``word``: the nearest right one, then all of them."""
    names = sorted(allowed)
    close = nearest(word, names)
    hint = f"did you mean {close!r}? " if close else ""
    return hint + (f"use one of {', '.join(names)}" if names else "it has none")


def as_integer(value: Any) -> int | None:
    """``value`` as an int if it is an integer of any kind, such as ``np.int64(2)``; None for all else, bools included.

    A bool is refused because ``True`` where a count belongs is a mistake.
    """
    if type(value).__name__ in ("bool", "bool_"):  # NumPy's too, without importing NumPy
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None
