"""Every agent that a run can name: our own, and Stable-Baselines3's through the bridge."""

from __future__ import annotations

from mtrl import agents
from mtrl.agents import Agent
from mtrl.sb3 import SB3_AGENTS


def algorithms() -> dict[str, type[Agent]]:
    """Agent classes by the name that ``algorithm`` settings use."""
    return agents.AGENTS | SB3_AGENTS
