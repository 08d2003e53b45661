"""Task-conditioned agents, usable without the command line.

>>> from agents import MTPPO, MTSAC
"""

from agents.base import Agent, AgentConfig, EnvSpec
from agents.errors import AgentError, DivergedError
from agents.mtppo import MTPPO
from agents.mtppo_settings import MTPPOConfig
from agents.mtsac import MTSAC
from agents.mtsac_settings import MTSACConfig

AGENTS: dict[str, type[Agent]] = {MTSAC.name: MTSAC, MTPPO.name: MTPPO}

__all__ = [
    "AGENTS",
    "MTPPO",
    "MTSAC",
    "Agent",
    "AgentConfig",
    "AgentError",
    "DivergedError",
    "EnvSpec",
    "MTPPOConfig",
    "MTSACConfig",
]
