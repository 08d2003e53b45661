"""Task-conditioned agents, usable without the command line.

>>> from mtrl.agents import MTPPO, MTSAC
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtrl.envs.lazy import attach

if TYPE_CHECKING:
    from mtrl.agents.base import Agent as Agent
    from mtrl.agents.base import EnvSpec as EnvSpec
    from mtrl.agents.errors import AgentError as AgentError
    from mtrl.agents.errors import DivergedError as DivergedError
    from mtrl.agents.mtppo import MTPPO as MTPPO
    from mtrl.agents.mtppo_settings import MTPPOConfig as MTPPOConfig
    from mtrl.agents.mtsac import MTSAC as MTSAC
    from mtrl.agents.mtsac_settings import MTSACConfig as MTSACConfig
    from mtrl.agents.settings import AgentConfig as AgentConfig

__getattr__, __dir__ = attach(
    __name__,
    {
        "mtrl.agents.base": ("Agent", "EnvSpec"),
        "mtrl.agents.errors": ("AgentError", "DivergedError"),
        "mtrl.agents.mtppo": ("MTPPO",),
        "mtrl.agents.mtppo_settings": ("MTPPOConfig",),
        "mtrl.agents.mtsac": ("MTSAC",),
        "mtrl.agents.mtsac_settings": ("MTSACConfig",),
        "mtrl.agents.settings": ("AgentConfig",),
    },
)
