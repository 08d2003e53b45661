"""The bridge to Stable-Baselines3, an optional dependency (the extra ``sb3``).

``SB3VecEnv`` shows one of our environments to anything that expects an SB3 ``VecEnv``; ``SB3PPO`` and ``SB3SAC`` are
SB3's stock algorithms behind the interface of our agents.

>>> from mtrl.sb3 import SB3VecEnv
>>> from stable_baselines3 import PPO
>>> PPO("MlpPolicy", SB3VecEnv(make_vec("mt10")), seed=0).learn(100_000)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mtrl.agents import Agent
from mtrl.sb3.missing import require
from mtrl.sb3.ppo import SB3PPO
from mtrl.sb3.sac import SB3SAC

if TYPE_CHECKING:
    from mtrl.sb3.callback import LogCallback as LogCallback
    from mtrl.sb3.vec_env import SB3VecEnv as SB3VecEnv

SB3_AGENTS: dict[str, type[Agent]] = {SB3SAC.name: SB3SAC, SB3PPO.name: SB3PPO}

_HOMES = {"SB3VecEnv": "mtrl.sb3.vec_env", "LogCallback": "mtrl.sb3.callback"}
__all__ = ["SB3PPO", "SB3SAC", "SB3_AGENTS", "LogCallback", "SB3VecEnv"]


def __getattr__(name: str) -> Any:
    """Subclasses of SB3's own classes can only be made where SB3 is installed."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mtrl.sb3' has no attribute {name!r}")
    require(name)
    return getattr(importlib.import_module(_HOMES[name]), name)
