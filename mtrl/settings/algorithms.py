"""Every agent that a run can name: our own, and Stable-Baselines3's through the bridge."""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING, NamedTuple

from mtrl.agents.settings import AgentConfig
from mtrl.errors import unknown

if TYPE_CHECKING:
    from mtrl.agents import Agent


class Algorithm(NamedTuple):
    """Where the settings and the agent of an algorithm are, as ``module:Class``; each is imported when it is needed."""

    settings: str
    agent: str


ALGORITHMS: dict[str, Algorithm] = {
    "mtsac": Algorithm("mtrl.agents.sac.settings:MTSACConfig", "mtrl.agents.sac.agent:MTSAC"),
    "mtppo": Algorithm("mtrl.agents.ppo.settings:MTPPOConfig", "mtrl.agents.ppo.agent:MTPPO"),
    "sb3-sac": Algorithm("mtrl.sb3.settings:SB3SACConfig", "mtrl.sb3.sac:SB3SAC"),
    "sb3-ppo": Algorithm("mtrl.sb3.settings:SB3PPOConfig", "mtrl.sb3.ppo:SB3PPO"),
}


def settings_class(name: str) -> type[AgentConfig]:
    """The settings of an algorithm. Raises ConfigError if there is no such one."""
    if name not in ALGORITHMS:
        raise unknown("algorithm", name, ALGORITHMS)
    found: type[AgentConfig] = pkgutil.resolve_name(ALGORITHMS[name].settings)
    return found


def agent_class(name: str) -> type[Agent]:
    """The agent of an algorithm; imports torch."""
    found: type[Agent] = pkgutil.resolve_name(ALGORITHMS[name].agent)
    return found
