"""Errors that agents raise, and the sentence for a setting that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AgentError(ValueError):
    """A setting, space or file that the agent cannot work with; the message says what is allowed."""


class DivergedError(RuntimeError):
    """A parameter or a loss is no longer finite; the message names which."""


def unknown(field: str, value: str, allowed: Iterable[str]) -> AgentError:
    """The error for a ``value`` outside ``allowed``, with the nearest right one."""
    names = sorted(allowed)
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    rest = f"use one of {', '.join(names)}" if names else "it has none"
    return AgentError(f"{field}: {value!r} is unknown; {hint}{rest}")
