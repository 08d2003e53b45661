"""Task-conditioned agents, usable without the command line.

>>> from mtrl.agents import MTPPO, MTSAC
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from mtrl.agents.agent import Agent as Agent
    from mtrl.agents.agent import EnvSpec as EnvSpec
    from mtrl.agents.errors import AgentError as AgentError
    from mtrl.agents.errors import DivergedError as DivergedError
    from mtrl.agents.ppo.agent import MTPPO as MTPPO
    from mtrl.agents.ppo.settings import MTPPOConfig as MTPPOConfig
    from mtrl.agents.sac.agent import MTSAC as MTSAC
    from mtrl.agents.sac.settings import MTSACConfig as MTSACConfig
    from mtrl.agents.settings import AgentConfig as AgentConfig

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "agent": ("Agent", "EnvSpec"),
        "errors": ("AgentError", "DivergedError"),
        "ppo.agent": ("MTPPO",),
        "ppo.settings": ("MTPPOConfig",),
        "sac.agent": ("MTSAC",),
        "sac.settings": ("MTSACConfig",),
        "settings": ("AgentConfig",),
    },
)
