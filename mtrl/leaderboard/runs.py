"""Runs as the leaderboard needs them: compact, because there may be ten thousand."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from mtrl.errors import ResultError
from mtrl.leaderboard.files import Omission, find, is_other, printable, read_checked
from mtrl.records.results import Record
from mtrl.records.rows import told_apart


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One result file.

    Attributes:
        file: path below the results folder, printable.
        link: the file as a relative URL from the page.
        protocol: the record's protocol object; ``protocol_key`` is the text of all that a table has in common.
        method_key: the text of all that a row has in common, ``settings_key`` the same without precision and plan.
        planned_steps: env steps the run was last asked for; ``segments`` holds every plan.
        env_steps, hours: cost at each evaluation, ``[evaluation]``; env steps are summed over tasks.
        successes, final_step, returns: per evaluation and task, ``[evaluation, task]``.
    """

    file: str
    link: str
    run_id: str
    status: str
    protocol: Record
    protocol_key: str
    method: Record
    method_key: str
    settings_key: str
    seed: int
    planned_steps: int
    segments: list[Record]
    budget: Record
    provenance: Record
    env_steps: NDArray[np.int64]
    hours: NDArray[np.float64]
    successes: NDArray[np.int64]
    final_step: NDArray[np.int64]
    returns: NDArray[np.float64]

    @property
    def rates(self) -> NDArray[np.float64]:
        """Success rates ``[evaluation, task]``."""
        return self.successes / int(self.protocol["episodes_per_task"])

    @property
    def counted(self) -> bool:
        """Whether the run is part of its row's numbers: it finished, or diverged, which counts as 0."""
        return self.status in ("finished", "diverged")

    @property
    def final(self) -> NDArray[np.int64]:
        """Successes that the run ended with ``[task]``: none if it diverged."""
        if self.status == "diverged":
            return np.zeros(len(self.tasks), np.int64)
        return self.successes[-1]

    @property
    def last_mean(self) -> float:
        """Mean success of the last evaluation, also of a run that diverged after it; 0 if there was none."""
        return float(self.rates[-1].mean()) if len(self.env_steps) else 0.0

    @property
    def taken(self) -> int:
        """Env steps taken, summed over tasks."""
        return int(self.budget["env_steps"])

    @property
    def dirty(self) -> bool:
        """Whether the code differed from its commit."""
        return bool(self.provenance["git_dirty"])

    @property
    def straight(self) -> bool:
        """Whether the run was planned once, at its start."""
        return len(self.segments) == 1 and self.segments[0]["env_steps"] == 0

    @property
    def distinct(self) -> list[int] | None:
        """Different levels or goals of each task in an evaluation; None where the record does not tell."""
        levels = self.protocol["distinct_levels"]
        return None if levels is None else [int(count) for count in levels.values()]

    @property
    def tasks(self) -> list[str]:
        names: list[str] = self.protocol["tasks"]
        return names


def load(folder: Path, out: Path) -> tuple[list[Run], list[Omission]]:
    """All runs below ``folder`` in order of path, and every file that is none of them.

    Raises:
        ConfigError: there is no such folder.
    """
    runs: list[Run] = []
    omitted: list[Omission] = []
    written = out.resolve()
    folders: dict[Path, Path] = {}
    for path in find(folder):
        if path.parent not in folders:
            folders[path.parent] = Path(os.path.realpath(path.parent))
        if folders[path.parent].is_relative_to(written):
            continue  # an earlier build's own files
        name = printable(path.relative_to(folder))
        if is_other(path):
            omitted.append(Omission(name, "not the result of a run, by its name", fault=False))
            continue
        try:
            runs.append(
                run_of(
                    read_checked(path, inside=folder),
                    name,
                    _link(folders[path.parent] / path.name, written),
                )
            )
        except ResultError as error:
            omitted.append(Omission(name, str(error)))
    kept, doubles = _without_doubles(runs)
    return kept, sorted([*omitted, *doubles])


def run_of(record: Record, name: str, link: str) -> Run:
    """The run of a checked record; ``name`` and ``link`` say where its file is."""
    evaluations = record["evaluations"]
    segments: list[Record] = record["budget"]["segments"]
    tasks = [list(evaluation["per_task"].values()) for evaluation in evaluations]
    shape = (len(evaluations), len(record["protocol"]["tasks"]))

    def column(key: str, kind: type) -> NDArray[Any]:
        return np.array([[task[key] for task in row] for row in tasks], dtype=kind).reshape(
            shape
        )

    settings = told_apart(settings_of(record["method"], record["protocol"]))
    settings.pop("agent.precision", None)  # what came of it counts
    identity = {**record["method"], "params": settings, "num_parameters": None}
    # Runs of one row differ in the seed of their goals; a seed that was asked for is the evaluation's.
    protocol = {
        key: value
        for key, value in record["protocol"].items()
        if key not in ("goal_seed", "distinct_levels")
    }
    return Run(
        file=name,
        link=link,
        run_id=record["run_id"],
        status=record["status"],
        protocol=record["protocol"],
        protocol_key=_canonical(protocol),
        method=record["method"],
        method_key=_canonical(
            [
                identity,
                record["provenance"]["precision"],
                segments[:-1],
                segments[-1]["env_steps"],
            ]
        ),
        settings_key=_canonical(identity),
        seed=int(record["seed"]),
        planned_steps=segments[-1]["total_env_steps"],
        segments=segments,
        budget=record["budget"],
        provenance=record["provenance"],
        env_steps=np.array(
            [evaluation["env_steps"] for evaluation in evaluations], dtype=np.int64
        ),
        hours=np.array(
            [evaluation["wall_s"] / 3600 for evaluation in evaluations], dtype=np.float64
        ),
        successes=column("successes", np.int64),
        final_step=column("final_step_successes", np.int64),
        returns=column("return_mean", np.float64),
    )


def settings_of(method: Record, protocol: Record) -> Record:
    """The settings of a run, with the names that its record gives to suite, algorithm and method."""
    return {
        **method["params"],
        "suite": protocol["suite"],
        "algorithm": method["agent"],
        "method": method["name"],
    }


def _without_doubles(runs: list[Run]) -> tuple[list[Run], list[Omission]]:
    """One file per run: of files that share a run id, or method and seed, at one budget, the one with most env steps.

    The budget counts since schedules follow it: a run of 3M env steps is no beginning of one of 20M.
    """
    kept: dict[Any, Run] = {}
    omitted = []
    for key_of in (
        lambda run: (run.run_id, _canonical(run.segments)),
        lambda run: (run.protocol_key, run.method_key, run.planned_steps, run.seed),
    ):
        kept = {}
        for run in runs:
            key = key_of(run)
            first = kept.setdefault(key, run)
            if first is run:
                continue
            better, worse = (run, first) if _reach(run) > _reach(first) else (first, run)
            kept[key] = better
            what = "run_id" if key[0] == run.run_id else "method, settings and seed"
            omitted.append(Omission(worse.file, f"duplicate: has the {what} of {better.file}"))
        runs = list(kept.values())
    return sorted(runs, key=lambda run: run.file), omitted


def _reach(run: Run) -> tuple[bool, int]:
    return run.status == "finished", int(run.budget["env_steps"])


def _link(path: Path, out: Path) -> str:
    relative = os.path.relpath(path, out)
    return quote(os.fsencode(relative).replace(os.sep.encode(), b"/"))


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
