"""Task-conditioned agents, usable without the command line.

>>> from mtrl.agents import MTPPO, MTSAC
"""

from mtrl.agents.base import Agent, AgentConfig, EnvSpec
from mtrl.agents.errors import AgentError, DivergedError
from mtrl.agents.mtppo import MTPPO
from mtrl.agents.mtppo_settings import MTPPOConfig
from mtrl.agents.mtsac import MTSAC
from mtrl.agents.mtsac_settings import MTSACConfig

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
