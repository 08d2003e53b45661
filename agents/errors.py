"""Errors that agents raise, the sentence for a setting that does not exist, and checks of single values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mtrl.envs.errors import UserError, as_integer, choices

# The largest that environments take, which agents reset with their own seed.
MAX_SEED = 2**32 - 1


class AgentError(UserError, ValueError):
    """A setting, space or file is invalid for the agent. The message names the allowed values."""


class DivergedError(RuntimeError):
    """A parameter or a loss is no longer finite; the message names which."""


def unknown(field: str, value: str, allowed: Iterable[str]) -> AgentError:
    """The error for a ``value`` outside ``allowed``, with the nearest right one."""
    return AgentError(f"{field}: {value!r} is unknown; {choices(value, allowed)}")


def check_seed(seed: Any) -> int:
    """Return ``seed`` as an int. Raises AgentError unless it is an integer from 0 to ``MAX_SEED``."""
    number = as_integer(seed)
    if number is None or not 0 <= number <= MAX_SEED:
        raise AgentError(f"seed: {seed!r} is not an integer from 0 to {MAX_SEED}")
    return number


def check_total(total_env_steps: Any) -> int:
    """Return a number of env steps as an int. Raises AgentError unless it is a whole number of at least 0."""
    whole = isinstance(total_env_steps, float) and total_env_steps.is_integer()
    number = int(total_env_steps) if whole else as_integer(total_env_steps)
    if number is None or number < 0:
        raise AgentError(
            f"total_env_steps: {total_env_steps!r} is not a whole number of at least 0"
        )
    return number
