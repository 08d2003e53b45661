"""Task-conditioned agents, usable without the command line.

>>> from agents import MTSAC
"""

from agents.base import Agent, AgentConfig, EnvSpec
from agents.errors import AgentError, DivergedError
from agents.mtsac import MTSAC, MTSACConfig

AGENTS: dict[str, type[Agent]] = {MTSAC.name: MTSAC}

__all__ = ["AGENTS", "MTSAC", "Agent", "AgentConfig", "AgentError", "DivergedError", "EnvSpec", "MTSACConfig"]
