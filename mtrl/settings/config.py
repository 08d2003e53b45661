"""The configuration of a run: parsed once at the door, frozen, and written into the run folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import InstanceOf, PlainValidator

from mtrl import envs
from mtrl.agents.errors import AgentError
from mtrl.agents.settings import AgentConfig, Count, Natural, Setting, registry_of, settings
from mtrl.envs.errors import choices, nearest
from mtrl.errors import ConfigError
from mtrl.settings.algorithms import ALGORITHMS
from mtrl.settings.fields import Flat, build, choice_of, coerce, flatten, read_choice, settings_of

# What may differ between a checkpoint and the run that continues it: where it runs, how long, and what is only shown.
FREE_KEYS = frozenset(
    {"run_dir", "device", "total_env_steps", "tensorboard", "num_workers", "num_threads"}
)


class PerTask(int):
    """A number of env steps for each task of a suite; YAML and the command line write ``20_000/task``."""


def _env_steps(value: Any) -> int:
    """A number of env steps: summed over tasks, or for each task. Raises AgentError for anything else."""
    text = str(value).replace(" ", "")
    number = re.fullmatch(r"(\d[\d_]*(?:\.\d*)?(?:[eE]\+?\d+)?)(/task)?", text)
    steps = float(number[1]) if number else 0.0
    if number is None or steps < 1 or not steps.is_integer():
        shown = repr(value) if isinstance(value, str) else value
        raise AgentError(
            f"{shown} is not a number of env steps; it must be a whole number of at least 1, or N/task"
        )
    return PerTask(steps) if number[2] or isinstance(value, PerTask) else int(steps)


def _summed(steps: int, tasks: int) -> int:
    return int(steps) * tasks if isinstance(steps, PerTask) else steps


EnvSteps = Annotated[int, PlainValidator(_env_steps)]


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
    """Auto, cpu, cuda or cuda:N."""
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
    agent: InstanceOf[AgentConfig] = dataclasses.field(kw_only=True)

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
        return flatten(self)

    @property
    def sha256(self) -> str:
        """Digest of everything but the run folder and the device."""
        return _digest(
            {key: value for key, value in self.flat().items() if key not in ("run_dir", "device")}
        )

    @property
    def run_id(self) -> str:
        """Name of the run: equal for equal configurations, unchanged when the run is made longer."""
        fixed = {key: value for key, value in self.flat().items() if key not in FREE_KEYS}
        return f"{self.suite.replace(':', '-')}_{self.method}_s{self.seed}_{_digest(fixed)[:8]}"


def settings_class(algorithm: str) -> type[AgentConfig]:
    """The settings of an algorithm.

    Raises:
        ConfigError: there is no such algorithm.
    """
    if algorithm not in ALGORITHMS:
        raise unknown("algorithm", algorithm, ALGORITHMS)
    return ALGORITHMS[algorithm].settings_class()


def run_settings(algorithm: str) -> dict[str, Setting]:
    """Every setting of a run with this algorithm, by dotted key; a choice is one setting."""
    return settings_of(TrainConfig, {"agent": settings_class(algorithm)})


def make_config(values: Flat, sources: dict[str, str] | None = None) -> TrainConfig:
    """Check flat values, name by name, and freeze them.

    All names are checked before any value, so that a mistyped one is answered before a choice imports torch.

    Args:
        values: by dotted key, from YAML or as text; must hold ``algorithm``.
        sources: where each key was read, for the messages.

    Raises:
        ConfigError: an unknown key, with the nearest right one, or a value that is not allowed.
    """
    origins = sources or {}
    algorithm = str(values.get("algorithm"))
    known = run_settings(algorithm)
    for key in values:
        if key not in known and choice_of(key, known) is None:
            raise unknown_key(key, origins.get(key, ""), known)
    typed: Flat = {}
    chosen: dict[str, Flat] = {}
    for key, value in values.items():
        owner = key if key in known else choice_of(key, known)
        assert owner is not None
        if choice_of(f"{owner}.", known) == owner:
            chosen.setdefault(owner, {})[key[len(owner) + 1 :]] = value
        else:
            typed[key] = coerce(f"{origins.get(key, '')}{key}", value, known[key].hint)
    for owner, given in chosen.items():
        origin = next(
            (origins[key] for key in origins if key == owner or key.startswith(f"{owner}.")), ""
        )
        typed[owner] = read_choice(owner, given, known[owner], origin)
    return build(TrainConfig, typed, {"agent": settings_class(algorithm)})


def unknown_key(key: str, origin: str, known: dict[str, Setting]) -> ConfigError:
    """The error for a setting that does not exist, with the nearest right one."""
    close = nearest(key, [*known, "config", "resume", "seeds"])
    return ConfigError(
        f"{origin}{key}: unknown setting; "
        + (f"did you mean {close}?" if close else "--help shows all")
    )


def unknown(field: str, value: str, allowed: Iterable[str]) -> ConfigError:
    """The error for a name that does not exist, with the nearest right one."""
    return ConfigError(f"{field}: {value!r} is unknown; {choices(value, allowed)}")


def canonical(saved: Flat) -> Flat:
    """Saved flat settings in today's form: choices that were written short are written out.

    Settings that did not exist when they were saved stay missing.
    """
    known = run_settings(str(saved.get("algorithm")))
    result: Flat = {}
    for key, value in saved.items():
        if key in known and choice_of(f"{key}.", known) == key:
            choice = read_choice(key, {"": value}, known[key])
            written = (
                {key: None}
                if choice is None
                else {f"{key}.{k}": part for k, part in choice.flat().items()}
            )
            result |= written
        else:
            result[key] = value
    return result


def shortened(flat: Flat) -> Flat:
    """Flat settings with each choice as one text, such as ``cagrad:c=0.9``, in the place of its first key."""
    known = run_settings(str(flat.get("algorithm")))
    result: Flat = {}
    parts: dict[str, Flat] = {}
    for key, value in canonical(flat).items():
        owner = choice_of(key, known)
        if owner is None:
            result[key] = value
        else:
            result.setdefault(owner, None)
            parts.setdefault(owner, {})[key[len(owner) + 1 :]] = value
    for owner, given in parts.items():
        setting = known[owner]
        choice, registry = read_choice(owner, given, setting), registry_of(setting.hint)
        assert choice is not None and registry is not None
        result[owner] = registry.short(choice)
    return result


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
