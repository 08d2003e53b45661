"""Read a sweep's YAML file into a list of runs with checked, frozen configurations."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from mtrl.agents.settings import as_text
from mtrl.envs import SuiteError
from mtrl.envs.errors import nearest
from mtrl.errors import ConfigError
from mtrl.records import rows
from mtrl.settings import presets
from mtrl.settings.config import TrainConfig

Values = dict[str, Any]
KEYS = {
    "suites": "a list of suite ids, or files that declare one",
    "methods": "a list of methods, or a mapping from each to settings of its own, or to a list of such settings",
    "seeds": "a list of whole numbers, or how many (counted from 0)",
    "total_env_steps": "env steps of every run, or a mapping from suites to them",
    "settings": "a mapping of dotted settings for every run",
    "together": "true, or how many seeds of a suite and method share a process; false (the default) gives each its own",
    "results": "the folder of result files, by default results",
}
OWN = ("suite", "method", "seed", "total_env_steps", "run_dir", "resume", "config")


@dataclasses.dataclass(frozen=True)
class Unit:
    """One run of a sweep.

    Attributes:
        row: what its seeds have in common: the suite, and the method, with its changes where the sweep has several.
        arguments: of ``python -m mtrl.train``, the run folder apart.
        result: where its result file goes once it is over.
    """

    config: TrainConfig
    row: tuple[str, str]
    arguments: tuple[str, ...]
    result: Path

    @property
    def folder(self) -> Path:
        return self.config.folder

    @property
    def name(self) -> str:
        return f"{' '.join(self.row)} seed {self.config.seed}"


@dataclasses.dataclass(frozen=True)
class Spec:
    """A sweep: its runs, in the order in which they start.

    Attributes:
        together: seeds of one suite and method that train in one process. On a GPU their updates become one call, and
            their memory adds up. On a CPU every seed is computed by itself, so separate processes (``--jobs``) are as
            fast or faster. Results are the same, to rounding on a GPU.
    """

    path: Path
    results: Path
    units: tuple[Unit, ...]
    together: int = 1


def read_spec(path: Path) -> Spec:
    """Read and check a sweep's file.

    Result files go to ``RESULTS/SUITE/BUDGET/ROW/seed-N.json``, run folders to
    ``RESULTS/.runs/SUITE/BUDGET/ROW/seed-N`` (hidden, so that ``leaderboard build`` sees each run once). ROW is the
    method with the settings that differ from its preset (``records.rows``), so sweeps of one results folder share a
    run only where they mean the same one. RESULTS is ``results`` if left out. Files of methods and suites count from
    the folder of the sweep's file. Seeds are the outer loop, so that a sweep cut short has every row.

    Raises:
        ConfigError: one sentence about the first thing that is wrong, with the nearest right name.
    """
    values = _mapping(path, "SPEC", presets.load_yaml(path))
    for key in values:
        if key not in KEYS:
            close = nearest(key, KEYS)
            hint = f"did you mean {close}?" if close else f"the keys are {', '.join(KEYS)}"
            raise ConfigError(f"{path}: {key}: unknown key; {hint}")
    for key in ("suites", "methods"):
        if not values.get(key):
            raise ConfigError(f"{path}: {key}: none given; it is {KEYS[key]}")
    suites, methods = _list(path, values, "suites"), _methods(path, values["methods"])
    seeds = _seeds(path, values.get("seeds", 1))
    shared = _mapping(path, "settings", values.get("settings") or {})
    results = Path(str(values.get("results", "results")))
    units = [
        _unit(
            path,
            results,
            suite,
            method,
            seed,
            _budget(path, values, suite, suites) | shared | own,
            alone=[name for name, _ in methods].count(method) == 1,
        )
        for seed in seeds
        for suite in suites
        for method, own in methods
    ]
    twice = [
        unit.name for unit in units if [other.result for other in units].count(unit.result) > 1
    ]
    if twice:
        raise ConfigError(
            f"{path}: {twice[0]} is there twice; suites, methods and seeds must differ from each other"
        )
    return Spec(
        path, results, tuple(units), _together(path, values.get("together", False), len(seeds))
    )


def _mapping(path: Path, key: str, value: Any) -> Values:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"{path}: {key}: must hold 'key: value' lines, not {value!r}")
    return value


def _list(path: Path, values: Values, key: str) -> list[str]:
    found = values[key]
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ConfigError(f"{path}: {key}: {found!r} is not {KEYS[key]}")
    return found


def _methods(path: Path, found: Any) -> list[tuple[str, Values]]:
    """Every method with each of the settings that it is to run with."""
    if isinstance(found, dict):
        return [
            (str(name), _mapping(path, f"methods.{name}", own or {}))
            for name, variants in found.items()
            for own in (variants if isinstance(variants, list) else [variants])
        ]
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ConfigError(f"{path}: methods: {found!r} is not {KEYS['methods']}")
    if len(set(found)) < len(found):
        raise ConfigError(
            f"{path}: methods: one is there twice; suites, methods and seeds must differ from each other"
        )
    return [(name, {}) for name in found]


def _seeds(path: Path, found: Any) -> list[int]:
    seeds = (
        list(range(found)) if isinstance(found, int) and not isinstance(found, bool) else found
    )
    whole = isinstance(seeds, list) and all(
        isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in seeds
    )
    if not whole or not seeds:
        raise ConfigError(f"{path}: seeds: {found!r} is not {KEYS['seeds']}")
    return seeds


def _together(path: Path, found: Any, seeds: int) -> int:
    if isinstance(found, bool):
        return seeds if found else 1
    if not isinstance(found, int) or found < 1:
        raise ConfigError(
            f"{path}: together: {found!r} is neither true or false nor a number of seeds from 1"
        )
    return found


def _budget(path: Path, values: Values, suite: str, suites: list[str]) -> Values:
    found = values.get("total_env_steps")
    if isinstance(found, dict):
        for name in found:
            if name not in suites:
                close = nearest(str(name), suites)
                hint = (
                    f"did you mean {close}?" if close else f"the suites are {', '.join(suites)}"
                )
                raise ConfigError(
                    f"{path}: total_env_steps.{name}: is no suite of this sweep; {hint}"
                )
        found = found.get(suite)
    return {} if found is None else {"total_env_steps": found}


def _unit(
    path: Path,
    results: Path,
    suite: str,
    method: str,
    seed: int,
    settings: Values,
    *,
    alone: bool,
) -> Unit:
    """One run; ``alone`` says that the sweep has no other settings of the method."""
    for key in settings:
        if key in OWN and key != "total_env_steps":
            raise ConfigError(f"{path}: {key}: is set by the sweep itself, not among settings")
    file = path.parent / method if method.endswith((".yaml", ".yml")) else None
    if suite.endswith((".yaml", ".yml")):
        suite = str(path.parent / suite)
    given = {"suite": suite, "method": str(file or method), "seed": seed, **settings}
    try:
        config = presets.resolve(given)
    except (ConfigError, SuiteError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None
    place = rows.place(config.flat(), file)
    run = results / ".runs" / place.with_suffix("")
    arguments = (
        suite,
        *(
            f"--{key.replace('_', '-')}={as_text(given[key])}"
            for key in given
            if key != "suite"
        ),
    )
    row = config.suite, config.method if alone else place.parent.name
    return Unit(dataclasses.replace(config, run_dir=str(run)), row, arguments, results / place)
