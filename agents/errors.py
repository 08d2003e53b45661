"""Errors that agents raise, and the sentence for a setting that does not exist."""

from __future__ import annotations

from collections.abc import Iterable

from mtrl.envs.errors import UserError, choices


class AgentError(UserError, ValueError):
    """A setting, space or file that the agent cannot work with; the message says what is allowed."""


class DivergedError(RuntimeError):
    """A parameter or a loss is no longer finite; the message names which."""


def unknown(field: str, value: str, allowed: Iterable[str]) -> AgentError:
    """The error for a ``value`` outside ``allowed``, with the nearest right one."""
    return AgentError(f"{field}: {value!r} is unknown; {choices(value, allowed)}")
