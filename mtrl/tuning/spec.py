"""Read a search's YAML file: the run, the seeds and the space of settings."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from mtrl.envs.errors import as_integer, nearest
from mtrl.errors import ConfigError
from mtrl.settings.config import TrainConfig
from mtrl.settings.presets import load_yaml, resolve

_RANGE_KEYS = {"low", "high", "log", "step"}


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``: whole ones if both ends are.

    Attributes:
        log: whether equal ratios are equally likely.
        step: distance of neighbours, None for all numbers.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclasses.dataclass(frozen=True)
class TuneSpec:
    """A search.

    Attributes:
        name: of the study; the file's stem.
        fixed: settings that every trial has, by key.
        space: what each other setting may be: a ``Range``, or a list of choices.
        seeds: trained in every trial; the mean over them is maximized.
        trials: how many there are in all.
        sampler_seed: of the search itself.
    """

    name: str
    suite: str
    method: str
    total_env_steps: Any
    seeds: tuple[int, ...]
    trials: int
    fixed: dict[str, Any]
    space: dict[str, Range | list[Any]]
    sampler_seed: int = 0

    def config(self, values: dict[str, Any], seed: int, run_dir: Path | None) -> TrainConfig:
        """Build the configuration of one seed with these values of the search space. Raises ConfigError for invalid
        values.
        """
        given = {
            "suite": self.suite,
            "method": self.method,
            "total_env_steps": self.total_env_steps,
            **self.fixed,
            **values,
            "seed": seed,
        }
        return resolve(given | ({"run_dir": str(run_dir)} if run_dir is not None else {}))


_KEYS = {
    "suite",
    "method",
    "total_env_steps",
    "seeds",
    "trials",
    "settings",
    "space",
    "sampler_seed",
}


def read_tune_spec(path: Path) -> TuneSpec:
    """Read and check a search; both ends of every range and every choice must be allowed.

    Raises:
        ConfigError, SuiteError: the file is missing or not YAML, a key is unknown or missing, or a value not allowed.
    """
    found = _load(path)
    for key in found:
        if key not in _KEYS:
            close = nearest(key, _KEYS)
            hint = f"did you mean {close}?" if close else f"use {', '.join(sorted(_KEYS))}"
            raise ConfigError(f"{path}: {key}: unknown key; {hint}")
    for key in ("suite", "total_env_steps", "space"):
        if key not in found:
            raise ConfigError(f"{path}: {key}: none given")
    seeds = _seeds(path, found.get("seeds", [1, 2, 3]))
    trials = as_integer(found.get("trials", 30))
    if trials is None or trials < 1:
        raise ConfigError(
            f"{path}: trials: {found['trials']!r} is not a whole number of at least 1"
        )
    fixed = found.get("settings") or {}
    if not isinstance(fixed, dict):
        raise ConfigError(f"{path}: settings: {fixed!r} is not a mapping of settings to values")
    sampler_seed = as_integer(found.get("sampler_seed", 0))
    if sampler_seed is None:
        raise ConfigError(
            f"{path}: sampler_seed: {found['sampler_seed']!r} is not a whole number"
        )
    space = found["space"]
    if not isinstance(space, dict) or not space:
        raise ConfigError(
            f"{path}: space: needs at least one setting with its range or choices"
        )
    spec = TuneSpec(
        path.stem,
        str(found["suite"]),
        str(found.get("method", "mtppo")),
        found["total_env_steps"],
        seeds,
        trials,
        fixed,
        {key: _dimension(path, key, value) for key, value in space.items()},
        sampler_seed,
    )
    for key, dimension in spec.space.items():
        ends = [dimension.low, dimension.high] if isinstance(dimension, Range) else dimension
        for value in ends:
            spec.config({key: value}, spec.seeds[0], None)
    return spec


def _seeds(path: Path, seeds: Any) -> tuple[int, ...]:
    if (
        not isinstance(seeds, list)
        or not seeds
        or any(as_integer(seed) is None for seed in seeds)
    ):
        raise ConfigError(f"{path}: seeds: {seeds!r} is not a list of whole numbers")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(
            f"{path}: seeds: {seeds!r} has a seed twice; every seed has one folder"
        )
    return tuple(seeds)


def _load(path: Path) -> dict[str, Any]:
    found = load_yaml(path)
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: is not a mapping of keys")
    return found


def _dimension(path: Path, key: str, value: Any) -> Range | list[Any]:
    if isinstance(value, list) and value:
        return value
    if not isinstance(value, dict) or not {"low", "high"} <= value.keys() <= _RANGE_KEYS:
        raise ConfigError(
            f"{path}: space.{key}: {value!r} is neither a list of choices nor low and high, with log or step"
        )
    low = _number(path, key, value["low"])
    high = _number(path, key, value["high"])
    step = _number(path, key, value.get("step"))
    if low is None or high is None or low >= high or (value.get("log") and low <= 0):
        raise ConfigError(f"{path}: space.{key}: low must be below high, and above 0 with log")
    if step is not None and (step <= 0 or value.get("log")):
        raise ConfigError(f"{path}: space.{key}: step must be above 0, and goes without log")
    return Range(low, high, bool(value.get("log", False)), step)


def _number(path: Path, key: str, value: Any) -> float | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    try:
        return float(value)  # YAML reads 1e-4 as text
    except (TypeError, ValueError):
        raise ConfigError(f"{path}: space.{key}: {value!r} is not a number") from None
