"""Group runs that differ only in their seeds into one series. A learning curve or a bar shows one series.

Letters: S seeds, E evaluations, T tasks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtrl.errors import ConfigError
from mtrl.records.results import Record, read_result
from mtrl.records.rows import changes, label, told_apart

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Series:
    """Runs of one method with different seeds.

    Attributes:
        label: the method, and what distinguishes it from its preset.
        records: one for each seed, all with at least one evaluation.
        env_steps: ``[E]``, mean over seeds at the evaluations that every seed has.
        hours: ``[E]``, mean wall-clock hours of the seeds at those evaluations.
        rates: success rates ``[S, E, T]`` there.
    """

    label: str
    records: list[Record]
    env_steps: Floats
    hours: Floats
    rates: Floats

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, in the suite's order."""
        names: list[str] = self.records[0]["protocol"]["tasks"]
        return names

    @property
    def last_rates(self) -> Floats:
        """Success rates ``[S, T]`` of the last evaluation that every seed has."""
        return self.rates[:, -1]


def find_results(path: Path) -> list[Path]:
    """The result files that ``path`` means: a file, a run's folder, or a folder of runs or of result files.

    Raises:
        ConfigError: there is none.
    """
    if path.is_file():
        return [path]
    if (path / "result.json").is_file():
        return [path / "result.json"]
    found = sorted(path.glob("*/result.json")) or sorted(path.glob("seed-*.json"))
    if not found:
        raise ConfigError(f"RUN: {path} is no run, and no folder of runs or result files")
    return found


def read_series(paths: Sequence[Path]) -> list[Series]:
    """One series for each method among the result files of ``paths``, in the order of their first run.

    Raises:
        ConfigError: a path without results, a run without an evaluation, or seeds without a common one.
        ResultError: a damaged result file.
    """
    groups: dict[str, list[Record]] = {}
    files = dict.fromkeys(file for path in paths for file in find_results(path))
    for file in files:
        record = read_result(file)
        if not record["evaluations"]:
            raise ConfigError(f"RUN: {file} has no evaluation yet")
        groups.setdefault(_identity(record), []).append(record)
    return [make_series(records) for records in groups.values()]


def _identity(record: Record) -> str:
    protocol = record["protocol"]
    params = told_apart(record["method"]["params"])
    return repr((protocol["suite"], protocol["backend"], sorted(params.items())))


def make_series(records: list[Record]) -> Series:
    """The series of ``records``. Raises ConfigError if the seeds have no evaluation in common."""
    own = [_by_turn(record) for record in records]
    common = sorted(set.intersection(*map(set, own)))
    params = records[0]["method"]["params"]
    name = label(params["method"], changes(params).values())
    if not common:
        raise ConfigError(f"RUN: the seeds of {name} have no evaluation in common")
    steps = np.array([[seed[turn]["env_steps"] for turn in common] for seed in own])
    hours = np.array([[seed[turn]["wall_s"] / 3600 for turn in common] for seed in own])
    rates = np.array([[_rates(seed[turn]) for turn in common] for seed in own])
    return Series(name, records, steps.mean(0), hours.mean(0), rates)


def _by_turn(record: Record) -> dict[int, Record]:
    """Evaluations by the env steps at which they were due.

    They happen after the rollout in which they are due, which ends at slightly different env steps in each seed.
    """
    params = record["method"]["params"]
    every, total = params.get("eval.every", 1), params["total_env_steps"]
    due = {each["env_steps"] // every * every: each for each in record["evaluations"]}
    last = record["evaluations"][-1]
    return due | ({total: last} if last["env_steps"] >= total else {})


def _rates(evaluation: Record) -> list[float]:
    return [task["successes"] / task["episodes"] for task in evaluation["per_task"].values()]


def one_suite(series: Sequence[Series]) -> str:
    """The suite that all series are of. Raises ConfigError if there are several."""
    suites = list(dict.fromkeys(each.records[0]["protocol"]["suite"] for each in series))
    if len(suites) > 1:
        raise ConfigError(
            f"RUN: runs of {' and '.join(suites)} do not go together; name one suite"
        )
    return str(suites[0])
