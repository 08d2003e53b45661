"""The configuration of a run: parsed once at the door, frozen, and written into the run folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import yaml

from mtrl.agents.base import Agent, AgentConfig
from mtrl.algorithms import algorithms
from mtrl.errors import ConfigError
from mtrl.fields import Setting, build, coerce, flatten, nearest, settings_of

# What may differ between a checkpoint and the run that continues it: where it runs, how long, and what is only shown.
FREE_KEYS = frozenset({"run_dir", "device", "total_env_steps", "tensorboard", "num_workers", "num_threads"})


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """The official evaluation."""

    every: int = 200_000
    """Env steps between evaluations, summed over tasks; there is always one at the end."""
    episodes_per_task: int = 50
    """Episodes of each task in one evaluation."""
    envs_per_task: int = 5
    """Parallel environments of each task in the evaluator; sets memory and speed."""
    seed: int = 0
    """Seed of the evaluator's own random streams."""

    def __post_init__(self) -> None:
        _positive(self, "eval.", "every", "episodes_per_task", "envs_per_task")
        _not_negative(self, "eval.", "seed")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything a training run depends on."""

    suite: str
    """Suite id; `python -m mtrl.train` lists them."""
    method: str
    """Name of a method in configs/methods, or the path of such a file."""
    algorithm: str
    """The agent class of the method."""
    seed: int = 0
    """Seed of the run: networks, environments, exploration and sampling."""
    total_env_steps: int = 20_000_000
    """Env steps to train for, summed over tasks."""
    device: str = "auto"
    """Auto, cpu, cuda or cuda:N."""
    run_dir: str | None = None
    """The run's folder; none means runs/SUITE/METHOD/seed-N."""
    envs_per_task: int = 1
    """Parallel training environments of each task."""
    backend: str = "auto"
    """Engine of the environments; auto takes the fastest faithful one."""
    num_workers: int | None = None
    """Worker processes of the environments, where the backend has them."""
    num_threads: int | None = None
    """Threads of the environments, where the backend has them."""
    torch_threads: int | None = None
    """CPU threads of PyTorch; none leaves PyTorch's own choice."""
    goals: Literal["random", "cycle"] = "random"
    """How training draws goals from the benchmark's fixed set."""
    goal_seed: int | None = None
    """Seed of the benchmark's goal set; none means the run's seed."""
    stagger: bool = False
    """Whether the training environments of a Meta-World task start in different phases of their episodes."""
    eval: EvalConfig = dataclasses.field(default_factory=EvalConfig)
    checkpoint_every: int = 200_000
    """Env steps between checkpoints."""
    log_every: int = 10_000
    """Env steps between log points."""
    tensorboard: bool = True
    """Whether to write TensorBoard events into the run folder."""
    agent: AgentConfig = dataclasses.field(kw_only=True)

    def __post_init__(self) -> None:
        _positive(self, "", "total_env_steps", "envs_per_task", "checkpoint_every", "log_every")
        _positive(self, "", "num_workers", "num_threads", "torch_threads")
        _not_negative(self, "", "seed", "goal_seed")

    @property
    def folder(self) -> Path:
        """The run folder: the one named, else ``runs/SUITE/METHOD/seed-N``."""
        return Path(self.run_dir or f"runs/{self.suite.replace(':', '-')}/{self.method}/seed-{self.seed}")

    @property
    def benchmark_seed(self) -> int:
        """The seed that fixes the benchmark's goal set, in training and in evaluation."""
        return self.seed if self.goal_seed is None else self.goal_seed

    def flat(self) -> dict[str, Any]:
        """Every value by dotted key, as in ``config.yaml``."""
        return flatten(self)

    @property
    def sha256(self) -> str:
        """Digest of everything but the run folder and the device."""
        return _digest({key: value for key, value in self.flat().items() if key not in ("run_dir", "device")})

    @property
    def run_id(self) -> str:
        """Name of the run: equal for equal configurations, unchanged when the run is made longer."""
        fixed = {key: value for key, value in self.flat().items() if key not in FREE_KEYS}
        return f"{self.suite.replace(':', '-')}_{self.method}_s{self.seed}_{_digest(fixed)[:8]}"


def agent_class(algorithm: str) -> type[Agent]:
    """The agent class behind an ``algorithm`` key.

    Raises:
        ConfigError: there is no such algorithm.
    """
    known = algorithms()
    if algorithm not in known:
        raise unknown("algorithm", algorithm, known)
    return known[algorithm]


def run_settings(algorithm: str) -> dict[str, Setting]:
    """Every setting of a run with this algorithm, by dotted key."""
    return settings_of(TrainConfig, {"agent": agent_class(algorithm).config_class})


def make_config(values: dict[str, Any], sources: dict[str, str] | None = None) -> TrainConfig:
    """Check flat values, name by name, and freeze them.

    Args:
        values: by dotted key, from YAML or as text; must hold ``algorithm``.
        sources: where each key was read, for the messages.

    Raises:
        ConfigError: an unknown key, with the nearest right one, or a value of the wrong type.
    """
    algorithm = str(values.get("algorithm"))
    settings = run_settings(algorithm)
    typed = {}
    for key, value in values.items():
        origin = (sources or {}).get(key, "")
        if key not in settings:
            raise unknown_key(key, origin, settings)
        typed[key] = coerce(f"{origin}{key}", value, settings[key].hint)
    return build(TrainConfig, typed, {"agent": agent_class(algorithm).config_class})


def unknown_key(key: str, origin: str, settings: dict[str, Setting]) -> ConfigError:
    """The error for a setting that does not exist, with the nearest right one."""
    close = nearest(key, [*settings, "config", "resume", "seeds"])
    return ConfigError(
        f"{origin}{key}: unknown setting; " + (f"did you mean {close}?" if close else "--help shows all")
    )


def unknown(field: str, value: str, allowed: Any) -> ConfigError:
    """The error for a name that does not exist, with the nearest right one."""
    names = sorted(allowed)
    close = nearest(value, names)
    hint = f"did you mean {close!r}? The choices are " if close else "the choices are "
    return ConfigError(f"{field}: {value!r} is unknown; {hint}{', '.join(names)}")


def difference(saved: dict[str, Any], config: TrainConfig) -> str | None:
    """The first setting in which a saved configuration differs from this one, in words; None if the run is the same."""
    current = config.flat()
    for key in sorted((saved.keys() | current.keys()) - FREE_KEYS):
        if saved.get(key) != current.get(key):
            return f"{key} is {saved.get(key)!r} there and {current.get(key)!r} here"
    return None


def to_yaml(config: TrainConfig) -> str:
    """The resolved configuration as flat YAML, which ``--config`` reads back."""
    head = f"# Resolved configuration of {config.run_id}; run it anew with --config=THIS_FILE --run-dir=NEW\n"
    return head + yaml.safe_dump(config.flat(), sort_keys=False, default_flow_style=None, allow_unicode=True)


def _digest(flat: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(flat, sort_keys=True).encode()).hexdigest()


def _positive(config: Any, prefix: str, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ConfigError(f"{prefix}{name}: {value} is too small; it must be at least 1")


def _not_negative(config: Any, prefix: str, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 0:
            raise ConfigError(f"{prefix}{name}: {value} is negative; seeds start at 0")
