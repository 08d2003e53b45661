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

from mtrl.sb3.missing import require

if TYPE_CHECKING:
    from mtrl.sb3.callback import LogCallback as LogCallback
    from mtrl.sb3.ppo import SB3PPO as SB3PPO
    from mtrl.sb3.sac import SB3SAC as SB3SAC
    from mtrl.sb3.vec_env import SB3VecEnv as SB3VecEnv

_HOMES = {
    "SB3PPO": "mtrl.sb3.ppo",
    "SB3SAC": "mtrl.sb3.sac",
    "SB3VecEnv": "mtrl.sb3.vec_env",
    "LogCallback": "mtrl.sb3.callback",
}
# Of SB3's own classes, which must be there to make them.
_SUBCLASSES = (
    "SB3VecEnv",
    "LogCallback",
)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mtrl.sb3' has no attribute {name!r}")
    if name in _SUBCLASSES:
        require(name)
    return getattr(importlib.import_module(_HOMES[name]), name)
