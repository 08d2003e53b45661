"""Trained agents that come with the package, one shared folder a suite (``mtrl hub pack``), and where they are."""

from __future__ import annotations

from pathlib import Path

from mtrl.envs.errors import choices
from mtrl.errors import ConfigError

AGENTS = Path(__file__).parent / "agents"


def names() -> list[str]:
    """The suites that have one."""
    return sorted(path.parent.name for path in AGENTS.glob("*/agent.safetensors"))


def demo_folder(suite: str) -> Path:
    """The shared folder of a suite, for ``from_pretrained``. Raises ConfigError where there is none."""
    if suite not in names():
        raise ConfigError(f"SUITE: {suite!r} has no agent here; {choices(suite, names())}")
    return AGENTS / suite
