"""The configuration of a run: merged and checked once at the start, frozen, and written into the run folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, InstanceOf, SerializeAsAny, ValidationInfo, WrapValidator

from mtrl import envs
from mtrl.agents.errors import AgentError
from mtrl.agents.settings import (
    AgentConfig,
    Choice,
    Count,
    Natural,
    Setting,
    settings,
    settings_of,
    values_of,
)
from mtrl.errors import ConfigError, unknown_key
from mtrl.settings.algorithms import ALGORITHMS, settings_class

Flat = dict[str, Any]
"""Settings by dotted key, as YAML, the command line and records write them."""
FREE_KEYS = frozenset(
    {
        "run_dir",
        "device",
        "graph",
        "total_env_steps",
        "tensorboard",
        "num_workers",
        "num_threads",
        "declaration",
    }
)
"""Settings in which a run may differ from the checkpoint it continues: machine, total, TensorBoard, and the declaration
of a suite, whose digest is in the suite's id."""

# The place of a run, which is no part of its identity.
PLACE_KEYS = ("run_dir", "device", "graph")


class PerTask(int):
    """A number of env steps for each task of a suite; YAML and the command line write ``20_000/task``."""


def _env_steps(value: Any, count: Callable[[Any], int]) -> int:
    per_task = isinstance(value, PerTask) or str(value).endswith("/task")
    steps = count(value.removesuffix("/task") if isinstance(value, str) else value)
    return PerTask(steps) if per_task else steps


def _summed(steps: int, tasks: int) -> int:
    return int(steps) * tasks if isinstance(steps, PerTask) else steps


def _agent(value: Any, run: ValidationInfo) -> Any:
    """The settings of the run's algorithm from a mapping."""
    if not isinstance(value, dict):
        return value
    return settings_class(str(run.data.get("algorithm")))(**value)


EnvSteps = Annotated[
    Count, WrapValidator(_env_steps), "a whole number of env steps of at least 1 as N or N/task"
]


@settings
class EvalConfig:
    """The official evaluation."""

    every: EnvSteps = PerTask(20_000)
    """Env steps between evaluations, summed over tasks or as N/task; there is always one at the end."""
    episodes_per_task: Count = 50
    """Episodes of each task in one evaluation."""
    envs_per_task: Count = 5
    """Parallel environments of each task in the evaluator; sets memory and speed, not results."""
    seed: Natural | None = None
    """Seed of other goals, or levels, to evaluate on; none means those of the run's own goal seed."""


@settings
class TrainConfig:
    """Everything a training run depends on."""

    suite: str
    """Suite id, or the path of a file that declares a suite; `python -m mtrl.train` lists the ids."""
    algorithm: str
    """The agent class of the method."""
    method: str = "mtppo"
    """Name of a method in configs/methods, or the path of such a file."""
    seed: Natural = 0
    """Seed of the run: networks, environments, exploration and sampling."""
    total_env_steps: EnvSteps = PerTask(2_000_000)
    """Env steps to train for, summed over tasks or as N/task."""
    device: str = "auto"
    """Auto, cpu, cuda or cuda:N. Auto is the CPU, until training has been measured on a GPU."""
    graph: Literal["auto", "on", "off"] = "auto"
    """Whether updates are recorded as CUDA graphs; auto does where the device is a GPU and the update can be."""
    run_dir: str | None = None
    """The run's folder; none means runs/SUITE/METHOD/seed-N."""
    envs_per_task: Count = 1
    """Parallel training environments of each task."""
    backend: str = "auto"
    """Engine of the environments; auto takes the fastest faithful one."""
    num_workers: Count | None = None
    """Worker processes of the environments, where the backend has them."""
    num_threads: Count | None = None
    """Threads of the environments, where the backend has them."""
    torch_threads: Count | None = None
    """CPU threads of PyTorch; none leaves PyTorch's own choice."""
    goals: Literal["random", "cycle"] = "random"
    """How training draws goals from the benchmark's fixed set."""
    goal_seed: Natural | None = None
    """Seed of the benchmark's goal set; none means the run's seed."""
    stagger: bool = False
    """Whether the training environments of a Meta-World task start in different phases of their episodes."""
    eval: EvalConfig = dataclasses.field(default_factory=EvalConfig)
    checkpoint_every: EnvSteps | None = None
    """Env steps between checkpoints, summed over tasks or as N/task; none means those between evaluations."""
    log_every: EnvSteps = PerTask(1_000)
    """Env steps between log points, summed over tasks or as N/task."""
    tensorboard: bool = True
    """Whether to write TensorBoard events into the run folder."""
    declaration: str | None = None
    """All of a declared suite as JSON, so that a run and its result need no file; filled in by the suite."""
    agent: Annotated[SerializeAsAny[InstanceOf[AgentConfig]], BeforeValidator(_agent)] = (
        dataclasses.field(kw_only=True)
    )

    def __post_init__(self) -> None:
        if self.declaration is not None:
            envs.declare(self.declaration)
        suite = envs.get_suite(self.suite)
        if self.declaration not in (None, suite.declaration):
            raise AgentError(f"declaration: is of another suite than {self.suite}")
        tasks = suite.num_tasks
        every = _summed(self.eval.every, tasks)
        settled = {
            "suite": suite.id,
            "declaration": suite.declaration,
            "eval": dataclasses.replace(self.eval, every=every),
            "total_env_steps": _summed(self.total_env_steps, tasks),
            "checkpoint_every": _summed(self.checkpoint_every or every, tasks),
            "log_every": _summed(self.log_every, tasks),
        }
        for name, value in settled.items():
            object.__setattr__(self, name, value)

    @property
    def saves_every(self) -> int:
        """Env steps between checkpoints."""
        assert self.checkpoint_every is not None
        return self.checkpoint_every

    @property
    def folder(self) -> Path:
        """The run folder: the one named, else ``runs/SUITE/METHOD/seed-N``."""
        return Path(
            self.run_dir
            or f"runs/{self.suite.replace(':', '-')}/{self.method}/seed-{self.seed}"
        )

    @property
    def benchmark_seed(self) -> int:
        """The seed that fixes the benchmark's goal set, in training and in evaluation."""
        return self.seed if self.goal_seed is None else self.goal_seed

    def flat(self) -> Flat:
        """Every value by dotted key, as in ``config.yaml``. Only a declared suite has a declaration."""
        values = flatten(values_of(self))
        if self.declaration is None:
            del values["declaration"]
        return values

    @property
    def sha256(self) -> str:
        """Digest of everything but ``PLACE_KEYS``: the run folder, the device and ``graph``."""
        return _digest(
            {key: value for key, value in self.flat().items() if key not in PLACE_KEYS}
        )

    @property
    def run_id(self) -> str:
        """Name of the run: equal for equal configurations, unchanged when the run is made longer."""
        fixed = {key: value for key, value in self.flat().items() if key not in FREE_KEYS}
        return f"{self.suite.replace(':', '-')}_{self.method}_s{self.seed}_{_digest(fixed)[:8]}"


def run_settings(algorithm: str) -> dict[str, Setting]:
    """Every setting of a run with this algorithm, by dotted key; a choice is one setting."""
    of_agent = settings_of(settings_class(algorithm))
    return settings_of(TrainConfig) | {f"agent.{key}": part for key, part in of_agent.items()}


def explained(config: TrainConfig) -> dict[str, Setting]:
    """The setting behind every key of ``config.flat()``."""
    known, flat = run_settings(config.algorithm), config.flat()
    for key, setting in list(known.items()):
        if setting.registry and f"{key}.kind" in flat:
            parts = {"kind": setting} | setting.registry.settings(flat[f"{key}.kind"])
            known |= {f"{key}.{name}": part for name, part in parts.items()}
    return {key: known[key] for key in flat}


def make_config(given: Flat, files: Mapping[str, Flat] = MappingProxyType({})) -> TrainConfig:
    """Merge settings, check them and freeze them.

    All names are checked before any value, and choices last, so that a mistake is answered before torch is imported.
    A layer that names a choice takes the weaker layers' settings of that choice with it.

    Args:
        given: by dotted key, as text or as YAML has them; stronger than all files.
        files: what each file holds, the weaker first.

    Raises ConfigError for an unknown key, with the nearest right one, and for a value that is not allowed.
    """
    layers = [*((f"{file}: ", values) for file, values in files.items()), ("", given)]
    named = [str(values["algorithm"]) for _, values in layers if "algorithm" in values]
    algorithm = named[-1] if named else ""
    known = run_settings(algorithm)
    merged: dict[str, tuple[Any, str]] = {
        f"{key}.kind": (setting.default.kind, "")
        for key, setting in known.items()
        if isinstance(setting.default, Choice)
    }
    for source, layer in layers:
        own = _of_algorithm(layer, algorithm, source)
        chosen = {key.removesuffix(".kind") for key in own}
        owners = {_owner(key) for key in own}
        for key in [key for key in merged if _owner(key) in chosen or key in owners]:
            del merged[key]
        merged |= {key: (value, source) for key, value in own.items()}
    try:
        return TrainConfig(**{"agent": {}} | _nested({key: merged[key][0] for key in merged}))
    except AgentError as error:
        key = re.split(r"[^\w.]", str(error))[0]
        whole = key if key in known else _owner(key)
        near = [key] * (key in merged) or [name for name in merged if _owner(name) == whole]
        raise ConfigError(f"{merged[near[-1]][1] if near else ''}{error}") from None


def _owner(key: str) -> str:
    return key.rpartition(".")[0]


def _of_algorithm(layer: Flat, algorithm: str, source: str) -> Flat:
    """The settings of a layer by their full keys, a choice by its ``kind``, those of other algorithms left out.

    ``ALGORITHM.key`` stands for ``agent.key``, and so does ``key`` alone where no setting of the run has that name.
    """
    found: Flat = {}
    for key, value in layer.items():
        head, owner = key.partition(".")[0], algorithm_of(key)
        known = run_settings(owner or algorithm)
        name = key.replace(head, "agent", 1) if owner else key
        if name not in known and f"agent.{head}" in known:
            name = f"agent.{key}"
        setting, choice = known.get(name), known.get(_owner(name))
        if setting is None and (choice is None or choice.registry is None):
            names = [*known, "config", "resume", "seeds"]
            right = [name.replace("agent.", f"{head}.") if owner else name for name in names]
            raise unknown_key(key, right, source)
        if setting:
            value = setting.read(value)
            name += ".kind" * (setting.registry is not None and value is not None)
        if owner in (None, algorithm):
            found[name] = value
    return found


def algorithm_of(key: str) -> str | None:
    """The algorithm that a key ``ALGORITHM.key`` is a setting of; None for other keys."""
    # The command line has none of the dashes.
    head, dot, _ = key.replace("-", "_").partition(".")
    return next((name for name in ALGORITHMS if dot and name.replace("-", "_") == head), None)


def _nested(flat: Flat) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key in sorted(flat):  # a choice that is none comes before settings of it
        *path, name = key.split(".")
        place = tree
        for part in path:
            place[part] = place.get(part) or {}
            place = place[part]
        place[name] = flat[key]
    return tree


def flatten(values: Mapping[str, Any], prefix: str = "") -> Flat:
    """Nested values by dotted key."""
    flat: Flat = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def shortened(flat: Flat) -> Flat:
    """Flat settings with each choice as one text, such as ``cagrad:c=0.9``, in the place of its first key."""
    known = run_settings(str(flat.get("algorithm")))
    choices = {key: setting.registry for key, setting in known.items() if setting.registry}
    short: Flat = {}
    for key, value in flat.items():
        owner, _, part = key.rpartition(".")
        if owner in choices:
            short[owner] = short.get(owner, {}) | {part: value}
        else:
            short[key] = value
    for key in choices.keys() & short.keys():
        short[key] = choices[key].short(short[key])
    return short


def difference(saved: Flat, config: TrainConfig) -> str | None:
    """The first setting in which a saved configuration differs from this one, in words; None if the run is the same."""
    current, before = shortened(config.flat()), shortened(saved)
    for key in sorted((before.keys() | current.keys()) - FREE_KEYS):
        if before.get(key) != current.get(key):
            return f"{key} is {before.get(key)!r} there and {current.get(key)!r} here"
    return None


def to_yaml(config: TrainConfig) -> str:
    """The resolved configuration as flat YAML, which ``--config`` reads back."""
    head = f"# Resolved configuration of {config.run_id}; run it anew with --config=THIS_FILE --run-dir=NEW\n"
    return head + yaml.safe_dump(
        config.flat(), sort_keys=False, default_flow_style=False, allow_unicode=True
    )


def _digest(flat: Flat) -> str:
    return hashlib.sha256(json.dumps(flat, sort_keys=True).encode()).hexdigest()
