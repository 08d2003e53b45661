"""mtrl: multi-task reinforcement learning. The public API of the whole suite, loaded at first use.

>>> import mtrl
>>> env = mtrl.make_vec("mt10")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtrl.agents import MTPPO as MTPPO
    from mtrl.agents import MTSAC as MTSAC
    from mtrl.agents import Agent as Agent
    from mtrl.agents import AgentError as AgentError
    from mtrl.agents import MTPPOConfig as MTPPOConfig
    from mtrl.agents import MTSACConfig as MTSACConfig
    from mtrl.config import EvalConfig as EvalConfig
    from mtrl.config import TrainConfig as TrainConfig
    from mtrl.envs import Suite as Suite
    from mtrl.envs import SuiteError as SuiteError
    from mtrl.envs import TaskSpec as TaskSpec
    from mtrl.envs import TaskVectorEnv as TaskVectorEnv
    from mtrl.envs import get_suite as get_suite
    from mtrl.envs import make_vec as make_vec
    from mtrl.envs import suite_ids as suite_ids
    from mtrl.evaluator import Evaluator as Evaluator
    from mtrl.results import TaskResult as TaskResult
    from mtrl.results import read_result as read_result
    from mtrl.statistics import t_interval as t_interval
    from mtrl.statistics import wilson_interval as wilson_interval

_HOMES = {
    "mtrl.agents": ("MTPPO", "MTSAC", "Agent", "AgentError", "MTPPOConfig", "MTSACConfig"),
    "mtrl.config": ("EvalConfig", "TrainConfig"),
    "mtrl.envs": ("Suite", "SuiteError", "TaskSpec", "TaskVectorEnv", "get_suite", "make_vec", "suite_ids"),
    "mtrl.evaluator": ("Evaluator",),
    "mtrl.results": ("TaskResult", "read_result"),
    "mtrl.statistics": ("t_interval", "wilson_interval"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = list(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'mtrl' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
