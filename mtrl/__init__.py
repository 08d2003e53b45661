"""mtrl: multi-task reinforcement learning. The public API of the whole suite, loaded at first use.

>>> import mtrl
>>> env = mtrl.make_vec("mt10")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from mtrl.registration import register_when_imported

if TYPE_CHECKING:
    from mtrl.agents import MTPPO as MTPPO
    from mtrl.agents import MTSAC as MTSAC
    from mtrl.agents import Agent as Agent
    from mtrl.agents import AgentError as AgentError
    from mtrl.agents import MTPPOConfig as MTPPOConfig
    from mtrl.agents import MTSACConfig as MTSACConfig
    from mtrl.envs import Suite as Suite
    from mtrl.envs import SuiteError as SuiteError
    from mtrl.envs import TaskSpec as TaskSpec
    from mtrl.envs import TaskVectorEnv as TaskVectorEnv
    from mtrl.envs import get_suite as get_suite
    from mtrl.envs import make_vec as make_vec
    from mtrl.envs import suite_ids as suite_ids
    from mtrl.evaluation.evaluator import Evaluator as Evaluator
    from mtrl.records.record import TaskResult as TaskResult
    from mtrl.records.results import read_result as read_result
    from mtrl.settings.config import EvalConfig as EvalConfig
    from mtrl.settings.config import TrainConfig as TrainConfig
    from mtrl.statistics import t_interval as t_interval
    from mtrl.statistics import wilson_interval as wilson_interval

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "agents": ("MTPPO", "MTSAC", "Agent", "AgentError", "MTPPOConfig", "MTSACConfig"),
        "settings.config": ("EvalConfig", "TrainConfig"),
        "envs": (
            "Suite",
            "SuiteError",
            "TaskSpec",
            "TaskVectorEnv",
            "get_suite",
            "make_vec",
            "suite_ids",
        ),
        "evaluation.evaluator": ("Evaluator",),
        "records.record": ("TaskResult",),
        "records.results": ("read_result",),
        "statistics": ("t_interval", "wilson_interval"),
    },
)

register_when_imported()
