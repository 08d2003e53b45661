"""The card that a run prints at its start: suite, method, size, machine and expected time."""

from __future__ import annotations

import shutil
import textwrap

import torch

from mtrl.agents import Agent
from mtrl.envs import TaskVectorEnv
from mtrl.records.results import Record, method_of
from mtrl.settings.config import TrainConfig
from mtrl.training.expected import UNKNOWN

_LABEL = 13
TIME_LABEL = f"{'time':<{_LABEL}}"


def run_card(
    config: TrainConfig, env: TaskVectorEnv, agent: Agent, expected: str = UNKNOWN
) -> str:
    """The card as lines of a label and a text, wrapped to the terminal.

    Args:
        expected: how long the run will take, in words.
    """
    suite = env.suite
    method = method_of(config.flat())
    rows = [
        ("suite", _suite(env)),
        ("observation", _observation(env)),
        ("action", _action(env)),
        ("reward", f"{suite.reward_version}, horizon {suite.horizon}, success {suite.success}"),
        ("goals", f"{suite.goals} (seed {config.benchmark_seed})"),
        ("method", f"{config.method}: {agent.name}, {agent.num_parameters:,} parameters"),
        (
            "network",
            _listed(config, method, ("network", ""), ("heads", ""), ("width", "width ")),
        ),
        ("gradients", _listed(config, method, ("aggregator", ""))),
        ("curriculum", _listed(config, method, ("curriculum", ""))),
        ("training", _training(config, env)),
        ("machine", _machine(config, env, agent)),
        ("time", expected),
        ("folder", str(config.folder)),
    ]
    return "\n".join(_row(label, text) for label, text in rows if text)


def _row(label: str, text: str) -> str:
    width = max(40, min(shutil.get_terminal_size((100, 24)).columns, 120))
    return textwrap.fill(
        text,
        width,
        initial_indent=f"{label:<{_LABEL}}",
        subsequent_indent=" " * _LABEL,
        break_on_hyphens=False,
    )


def _suite(env: TaskVectorEnv) -> str:
    suite = env.suite
    return f"{suite.id}, {suite.num_tasks} task{'s' * (suite.num_tasks != 1)}: {', '.join(suite.task_names)}"


def _listed(config: TrainConfig, method: Record, *parts: tuple[str, str]) -> str:
    """The values of the settings ``parts`` that the method has, each with its word in front; empty if it has none."""
    known = vars(config.agent) | method
    found = [(word, known.get(name)) for name, word in parts]
    return ", ".join(f"{word}{value}" for word, value in found if value is not None)


def _observation(env: TaskVectorEnv) -> str:
    space = env.single_observation_space
    size = 0 if space.shape is None else space.shape[0]
    layout = getattr(env, "obs_layout", None)
    if layout is not None:
        return f"{size} bytes: 7 x 7 cells of object, colour and state, direction, {layout.mission_words} mission words"
    if env.suite.family == "metaworld":
        return f"{size} numbers: hand and gripper (4), objects (14), both one step earlier (18), goal (3)"
    sizes = getattr(env, "observation_sizes", (size,))
    own = [f"{name} {own}" for name, own in zip(env.suite.task_names, sizes)]
    if len(set(sizes)) > 1:
        return f"{size} numbers, filled up with zeros: {', '.join(own)}"
    return f"{size} numbers"


def _action(env: TaskVectorEnv) -> str:
    space = env.single_action_space
    if env.suite.discrete:
        return f"one of {space.n}; tasks with fewer have the surplus masked"  # type: ignore[attr-defined]
    return f"{(space.shape or (0,))[0]} numbers within bounds"


def _training(config: TrainConfig, env: TaskVectorEnv) -> str:
    return (
        f"{config.total_env_steps:,} env steps summed over tasks, {env.envs_per_task} environment"
        f"{'s' * (env.envs_per_task != 1)} per task, seed {config.seed}; evaluations every {config.eval.every:,}, "
        f"{config.eval.episodes_per_task} episodes a task"
    )


def _machine(config: TrainConfig, env: TaskVectorEnv, agent: Agent) -> str:
    threads = config.num_threads or "all"
    return (
        f"{agent.device}, backend {env.backend}, threads of PyTorch: {torch.get_num_threads()}, "
        f"of the environments: {threads}"
    )
