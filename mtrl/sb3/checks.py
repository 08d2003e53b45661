"""Ranges of settings, as one-sentence errors."""

from __future__ import annotations

from mtrl.agents.base import AgentConfig
from mtrl.agents.errors import AgentError


def require_at_least(config: AgentConfig, least: float, *names: str) -> None:
    """Raise AgentError for a setting below ``least``."""
    for name in names:
        value = getattr(config, name)
        if not value >= least:
            raise AgentError(f"{name}: {value} is too small; it must be at least {least}")


def require_above(config: AgentConfig, bound: float, *names: str) -> None:
    """Raise AgentError for a setting that is given and not greater than ``bound``."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > bound:
            raise AgentError(f"{name}: {value} is out of range; it must be greater than {bound}")


def require_share(config: AgentConfig, *names: str) -> None:
    """Raise AgentError for a setting outside [0, 1]."""
    for name in names:
        value = getattr(config, name)
        if not 0 <= value <= 1:
            raise AgentError(f"{name}: {value} is out of range; it must lie in [0, 1]")
