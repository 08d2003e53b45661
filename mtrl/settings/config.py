"""The configuration of a run: parsed once at the door, frozen, and written into the run folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BeforeValidator,
    InstanceOf,
    PlainValidator,
    SerializeAsAny,
    TypeAdapter,
    ValidationInfo,
    WithJsonSchema,
)

from mtrl import envs
from mtrl.agents.errors import AgentError
from mtrl.agents.settings import (
    AgentConfig,
    Choice,
    Count,
    Natural,
    Registry,
    Schema,
    registries,
    settings,
    settings_of,
    values_of,
)
from mtrl.errors import ConfigError, unknown_key
from mtrl.settings.algorithms import settings_class
from mtrl.settings.fields import Flat, flatten, nested

# What may differ between a checkpoint and the run that continues it: where it runs, how long, and what is only shown.
FREE_KEYS = frozenset(
    {"run_dir", "device", "graph", "total_env_steps", "tensorboard", "num_workers", "num_threads"}
)

# Where a run takes place, which is no part of what is run.
PLACE_KEYS = ("run_dir", "device", "graph")


class PerTask(int):
    """A number of env steps for each task of a suite; YAML and the command line write ``20_000/task``."""


def _env_steps(value: Any) -> int:
    """A number of env steps: summed over tasks, or for each task."""
    text = str(value)
    steps: int = _COUNT.validate_python(text.removesuffix("/task"))
    return PerTask(steps) if text.endswith("/task") or isinstance(value, PerTask) else steps


def _summed(steps: int, tasks: int) -> int:
    return int(steps) * tasks if isinstance(steps, PerTask) else steps


def _agent(value: Any, run: ValidationInfo) -> Any:
    """The settings of the run's algorithm from a mapping."""
    if not isinstance(value, dict):
        return value
    return settings_class(str(run.data.get("algorithm")))(**value)


_COUNT: TypeAdapter[int] = TypeAdapter(Count)
EnvSteps = Annotated[
    int,
    PlainValidator(_env_steps),
    WithJsonSchema(
        {"type": "string", "minimum": 1, "words": "a whole number of env steps as N or N/task"}
    ),
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
    """Suite id; `python -m mtrl.train` lists them."""
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
    agent: Annotated[SerializeAsAny[InstanceOf[AgentConfig]], BeforeValidator(_agent)] = (
        dataclasses.field(kw_only=True)
    )

    def __post_init__(self) -> None:
        tasks = envs.get_suite(self.suite).num_tasks
        evaluation = dataclasses.replace(self.eval, every=_summed(self.eval.every, tasks))
        checkpoint_every = (
            evaluation.every if self.checkpoint_every is None else self.checkpoint_every
        )
        object.__setattr__(self, "eval", evaluation)
        object.__setattr__(self, "total_env_steps", _summed(self.total_env_steps, tasks))
        object.__setattr__(self, "checkpoint_every", _summed(checkpoint_every, tasks))
        object.__setattr__(self, "log_every", _summed(self.log_every, tasks))

    @property
    def saves_every(self) -> int:
        """Env steps between checkpoints."""
        assert self.checkpoint_every is not None
        return self.checkpoint_every

    @property
    def folder(self) -> Path:
        """The run folder: the one named, else ``runs/SUITE/METHOD/seed-N``."""
        return Path(
            self.run_dir or f"runs/{self.suite.replace(':', '-')}/{self.method}/seed-{self.seed}"
        )

    @property
    def benchmark_seed(self) -> int:
        """The seed that fixes the benchmark's goal set, in training and in evaluation."""
        return self.seed if self.goal_seed is None else self.goal_seed

    def flat(self) -> Flat:
        """Every value by dotted key, as in ``config.yaml``."""
        return flatten(values_of(self))

    @property
    def sha256(self) -> str:
        """Digest of everything but the run folder, the device and how it is driven."""
        return _digest({key: value for key, value in self.flat().items() if key not in PLACE_KEYS})

    @property
    def run_id(self) -> str:
        """Name of the run: equal for equal configurations, unchanged when the run is made longer."""
        fixed = {key: value for key, value in self.flat().items() if key not in FREE_KEYS}
        return f"{self.suite.replace(':', '-')}_{self.method}_s{self.seed}_{_digest(fixed)[:8]}"


def run_settings(algorithm: str) -> dict[str, Schema]:
    """Every setting of a run with this algorithm, by dotted key; a choice is one setting."""
    of_agent = settings_of(settings_class(algorithm))
    return settings_of(TrainConfig) | {f"agent.{key}": schema for key, schema in of_agent.items()}


def run_choices(algorithm: str) -> dict[str, Registry[Any]]:
    """The settings of a run that are choices, by dotted key."""
    found = registries(settings_class(algorithm))
    return {f"agent.{key}": registry for key, registry in found.items()}


def explained(config: TrainConfig) -> dict[str, Schema]:
    """The JSON schema of every key of ``config.flat()``."""
    known, flat = run_settings(config.algorithm), config.flat()
    for key, registry in run_choices(config.algorithm).items():
        if f"{key}.kind" in flat:
            parts = {"kind": known[key]} | registry.settings(flat[f"{key}.kind"])
            known |= {f"{key}.{name}": schema for name, schema in parts.items()}
    return {key: known[key] for key in flat}


def make_config(values: Flat, sources: Mapping[str, str] | None = None) -> TrainConfig:
    """Check flat values and freeze them.

    All names are checked before any value, and choices last, so that a mistake is answered before torch is imported.

    Args:
        values: by dotted key, from YAML or as text; must hold ``algorithm``.
        sources: where each key was read, for the messages.

    Raises:
        ConfigError: an unknown key, with the nearest right one, or a value that is not allowed.
    """
    origins = sources or {}
    algorithm = str(values.get("algorithm"))
    known, chosen = run_settings(algorithm), run_choices(algorithm)
    for key in values:
        if key not in known and key.rpartition(".")[0] not in chosen:
            raise unknown_key(key, [*known, "config", "resume", "seeds"], origins.get(key, ""))
    for key in chosen:
        default = known[key].get("default")
        if default and key not in values and f"{key}.kind" not in values:
            settings_of_it = {key: {"kind": default["kind"]} | dict(default["settings"])}
            values = flatten(settings_of_it) | values
    try:
        return TrainConfig(**{"agent": {}} | nested(values, known))
    except AgentError as error:
        key = str(error).partition(":")[0]
        origin = next((origins[name] for name in origins if f"{name}.".startswith(f"{key}.")), "")
        raise ConfigError(f"{origin}{error}") from None


def canonical(saved: Flat) -> Flat:
    """Saved flat settings in today's form: choices that were written short are written out.

    Settings that did not exist when they were saved stay missing.
    """
    return _rewritten(saved, lambda _, choice: choice.flat(), only_short=True)


def shortened(flat: Flat) -> Flat:
    """Flat settings with each choice as one text, such as ``cagrad:c=0.9``, in the place of its first key."""
    return _rewritten(flat, Registry.short)


def _rewritten(
    flat: Flat, write: Callable[[Registry[Any], Choice], Any], only_short: bool = False
) -> Flat:
    algorithm = str(flat.get("algorithm"))
    tree = nested(flat, run_settings(algorithm))
    agent = tree.get("agent", {})
    for name, registry in registries(settings_class(algorithm)).items():
        given = agent.get(name)
        if given is not None and not (only_short and isinstance(given, dict)):
            agent[name] = write(registry, registry.complete(given, f"agent.{name}"))
    return flatten(tree)


def difference(saved: Flat, config: TrainConfig) -> str | None:
    """The first setting in which a saved configuration differs from this one, in words; None if the run is the same."""
    current, before = config.flat(), canonical(saved)
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
