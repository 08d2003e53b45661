"""The error where Stable-Baselines3 is not installed."""

from __future__ import annotations

import importlib.util

from mtrl.agents.errors import AgentError
from mtrl.extras import install_command


def require(what: str) -> None:
    """Raise AgentError, saying how to install it, unless Stable-Baselines3 can be imported."""
    if importlib.util.find_spec("stable_baselines3") is None:
        command = install_command("stable-baselines3")
        raise AgentError(
            f"{what} needs stable-baselines3, which is not installed; run: {command}"
        )
