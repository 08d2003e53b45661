"""Every agent that a run can name: our own, and Stable-Baselines3's through the bridge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mtrl.agents.settings import AgentConfig, Entry

if TYPE_CHECKING:
    from mtrl.agents import Agent


@dataclass(frozen=True)
class Algorithm:
    """Where the settings and the agent of an algorithm are, as ``module:Class``; each is imported when it is needed."""

    settings: str
    agent: str

    def settings_class(self) -> type[AgentConfig]:
        """The dataclass of its settings."""
        found: type[AgentConfig] = Entry(self.settings, "").load()
        return found

    def agent_class(self) -> type[Agent]:
        """The agent; imports torch."""
        found: type[Agent] = Entry(self.agent, "").load()
        return found


ALGORITHMS: dict[str, Algorithm] = {
    "mtsac": Algorithm("mtrl.agents.sac.settings:MTSACConfig", "mtrl.agents.sac.agent:MTSAC"),
    "mtppo": Algorithm("mtrl.agents.ppo.settings:MTPPOConfig", "mtrl.agents.ppo.agent:MTPPO"),
    "sb3-sac": Algorithm("mtrl.sb3.settings:SB3SACConfig", "mtrl.sb3.sac:SB3SAC"),
    "sb3-ppo": Algorithm("mtrl.sb3.settings:SB3PPOConfig", "mtrl.sb3.ppo:SB3PPO"),
}


def agent_class(name: str) -> type[Agent]:
    """The agent of an algorithm; imports torch."""
    return ALGORITHMS[name].agent_class()
