"""What to say where Stable-Baselines3 is not installed."""

from __future__ import annotations

import importlib.util

from mtrl.agents.errors import AgentError


def require(what: str) -> None:
    """Raise AgentError, saying how to install it, unless Stable-Baselines3 can be imported."""
    if importlib.util.find_spec("stable_baselines3") is None:
        raise AgentError(f"{what} needs stable-baselines3, which is not installed; run: pip install 'mtrl[sb3]'")
