"""Tables and rows: which runs belong together, and the numbers of protocol and statistics for each group."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtrl import statistics
from mtrl.envs import suite_ids
from mtrl.leaderboard.runs import Run, settings_of
from mtrl.records.rows import changes, label

_SAID = 4
"""Differences that a label names; a search over many settings would make it a paragraph."""
FULL_SEEDS = 5
"""Below this number of seeds a row shows its seeds as dots and is called preliminary."""
Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; the bounds are NaN where there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def has_interval(self) -> bool:
        return not math.isnan(self.low)


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """Runs of one method with one set of settings and one budget, one per seed, in order of seed."""

    label: str
    runs: tuple[Run, ...]

    @cached_property
    def counted(self) -> tuple[Run, ...]:
        """The runs behind the numbers: finished ones, and diverged ones at their last evaluation."""
        return tuple(run for run in self.runs if run.counted)

    @property
    def first(self) -> Run:
        return self.runs[0]

    @property
    def method(self) -> str:
        return str(self.first.method["name"])

    @property
    def budget(self) -> int:
        """Env steps asked for, summed over tasks."""
        return self.first.planned_steps

    @property
    def seeds(self) -> int:
        return len(self.counted)

    @property
    def preliminary(self) -> bool:
        return self.seeds < FULL_SEEDS

    @cached_property
    def scores(self) -> Floats:
        """Final success rates ``[run, task]`` of the counted runs."""
        return np.array([run.rates[-1] for run in self.counted], dtype=np.float64).reshape(
            -1, len(self.first.tasks)
        )

    @cached_property
    def seed_means(self) -> list[float]:
        return [float(value) for value in self.scores.mean(1)]

    @cached_property
    def headline(self) -> Estimate:
        """Mean over tasks, then over seeds, with a t-interval over the per-seed means from five seeds on."""
        if not self.seeds:
            return Estimate(math.nan)
        mean, low, high = statistics.t_interval(self.seed_means)
        return Estimate(mean) if self.preliminary else Estimate(mean, max(low, 0.0), min(high, 1.0))

    @cached_property
    def task_counts(self) -> list[tuple[int, int]]:
        """Successes and episodes per task, pooled over the counted runs."""
        wins = (
            np.array([run.successes[-1] for run in self.counted])
            .reshape(-1, len(self.first.tasks))
            .sum(0)
        )
        episodes = self.seeds * int(self.first.protocol["episodes_per_task"])
        return [(int(count), episodes) for count in wins]

    @property
    def worst_k(self) -> int:
        """How many of the worst tasks ``worst`` averages: a fifth of them, at least one."""
        return max(1, math.ceil(len(self.first.tasks) / 5))

    @cached_property
    def summaries(self) -> dict[str, float]:
        """IQM, worst-k mean, optimality gap, best over training and final-step success; empty without counted runs."""
        if not self.seeds:
            return {}
        episodes = int(self.first.protocol["episodes_per_task"])
        return {
            "iqm": statistics.interquartile_mean(self.scores),
            "worst": statistics.worst_k_mean(self.scores, self.worst_k),
            "gap": statistics.optimality_gap(self.scores),
            "best": float(np.mean([run.rates.mean(1).max() for run in self.counted])),
            "final_step": float(
                np.mean([run.final_step[-1].mean() / episodes for run in self.counted])
            ),
            "hours": float(np.mean([run.hours[-1] for run in self.counted])),
        }

    @property
    def hardware(self) -> str:
        """Device and CPU cores, each kind once."""
        kinds = sorted(
            {(run.provenance["device"], int(run.provenance["cpu_count"])) for run in self.runs}
        )
        return ", ".join(f"{device}, {cores} core{'s' * (cores != 1)}" for device, cores in kinds)

    @property
    def commits(self) -> list[str]:
        """Commits of the runs, changed trees marked."""
        return sorted({_commit(run) for run in self.runs})

    def with_status(self, status: str) -> list[Run]:
        return [run for run in self.runs if run.status == status]


def _commit(run: Run) -> str:
    commit = str(run.provenance["git_commit"] or "unknown")[:12]
    return f"{commit} + changes" if run.provenance["git_dirty"] else commit


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A row against its plain baseline at the same budget."""

    baseline: Row
    difference: Estimate
    improvement: float
    preliminary: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """All rows of one suite under one protocol: rows of budgets in falling order, the best first in each."""

    protocol: dict[str, Any]
    rows: tuple[Row, ...]
    slug: str

    @property
    def suite(self) -> str:
        return str(self.protocol["suite"])

    @property
    def tasks(self) -> list[str]:
        names: list[str] = self.protocol["tasks"]
        return names

    @cached_property
    def budgets(self) -> list[tuple[int, list[Row]]]:
        """Rows by budget, the largest budget first: rows of different budgets are not ranked against each other."""
        groups: dict[int, list[Row]] = defaultdict(list)
        for row in self.rows:
            groups[row.budget].append(row)
        return sorted(groups.items(), reverse=True)

    def name(self, row: Row) -> str:
        """A row's label in plots, with its budget where that is not the table's largest."""
        return (
            row.label if row.budget == self.budgets[0][0] else f"{row.label}, {short(row.budget)}"
        )

    @cached_property
    def comparisons(self) -> dict[Row, Comparison]:
        """Each row that has a plain baseline, and what the difference is."""
        found = {}
        for _, rows in self.budgets:
            for row in rows:
                baseline = _baseline(row, rows)
                if baseline is not None and row.seeds and baseline.seeds:
                    values = statistics.welch_interval(row.seed_means, baseline.seed_means)
                    chance = statistics.probability_of_improvement(row.scores, baseline.scores)
                    weak = row.preliminary or baseline.preliminary
                    found[row] = Comparison(baseline, Estimate(*values), chance, weak)
        return found

    @property
    def packages(self) -> dict[str, list[str]]:
        """Versions of the simulators behind the rows."""
        versions: dict[str, set[str]] = defaultdict(set)
        for run in (run for row in self.rows for run in row.runs):
            for name in ("mujoco", "metaworld", "minigrid", "envpool"):
                if name in run.provenance["packages"] and _used(name, self):
                    versions[name].add(str(run.provenance["packages"][name]))
        return {name: sorted(found) for name, found in sorted(versions.items())}


def _used(package: str, table: Table) -> bool:
    """Whether a simulator package has a part in a table's numbers."""
    if package == "envpool":
        return "envpool" in str(table.protocol["backend"])
    return (package == "minigrid") == (table.protocol["reward_version"] == "stock")


def _alike(run: Run, other: Run) -> int:
    """Settings that two runs share."""
    theirs = other.method["params"]
    return sum(
        name in theirs and theirs[name] == value for name, value in run.method["params"].items()
    )


def _baseline(row: Row, rows: Sequence[Row]) -> Row | None:
    """The plain method of the same agent; for that one, and where there is none, plain ``mtsac``.

    Of several rows of that method it is the one that shares most settings with ``row``, then the one with most seeds.
    """
    for name in (str(row.first.method["agent"]), "mtsac"):
        plain = [
            other
            for other in rows
            if other.method == name and other.method != row.method and other.seeds
        ]
        if plain:
            return max(plain, key=lambda other: (_alike(row.first, other.first), other.seeds))
    return None


def tables(runs: Iterable[Run]) -> list[Table]:
    """Runs grouped into tables and rows. Suites of several tasks first, then in the suites' own order."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.protocol_key].append(run)
    order = {suite: index for index, suite in enumerate(suite_ids())}
    sort_key = {
        key: (len(members[0].tasks) == 1, order.get(members[0].protocol["suite"], len(order)), key)
        for key, members in groups.items()
    }
    slugs = _slugs({key: members[0].protocol for key, members in groups.items()})
    return [_table(groups[key], slugs[key]) for key in sorted(groups, key=sort_key.__getitem__)]


def _table(runs: list[Run], slug: str) -> Table:
    groups: dict[tuple[int, str], list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.planned_steps, run.method_key].append(run)
    labels = _labels({key: members[0] for key, members in groups.items()})
    rows = [
        Row(labels[key], tuple(sorted(members, key=lambda run: run.seed)))
        for key, members in groups.items()
    ]
    rows.sort(
        key=lambda row: (
            -row.budget,
            -row.headline.value if row.seeds else math.inf,
            row.label,
            row.first.file,
        )
    )
    return Table(runs[0].protocol, tuple(rows), slug)


def _labels(firsts: dict[tuple[int, str], Run]) -> dict[tuple[int, str], str]:
    """The method's name, with what tells a row from others of that name and budget.

    Args:
        firsts: a run of each row, by budget and method.
    """
    alike: dict[tuple[int, str], list[tuple[int, str]]] = defaultdict(list)
    for key, run in firsts.items():
        alike[key[0], run.method["name"]].append(key)
    labels = {}
    for (_, name), keys in alike.items():
        if len(keys) == 1:
            labels[keys[0]] = name
            continue
        found = [changes(settings_of(firsts[key].method, firsts[key].protocol)) for key in keys]
        for key, own in zip(keys, found):
            words = [
                text
                for setting, text in own.items()
                if any(other.get(setting) != text for other in found)
            ]
            more = [f"and {len(words) - _SAID} more"] if len(words) > _SAID else []
            labels[key] = label(name, words[:_SAID] + more)
    return _distinct(labels)


def _distinct(labels: dict[tuple[int, str], str]) -> dict[tuple[int, str], str]:
    """Number the labels that would still be equal within a budget."""
    seen: dict[tuple[int, str], int] = defaultdict(int)
    result = {}
    for key in sorted(labels):
        seen[key[0], labels[key]] += 1
        count = seen[key[0], labels[key]]
        result[key] = labels[key] if count == 1 else f"{labels[key]} #{count}"
    return result


def _slugs(protocols: dict[str, dict[str, Any]]) -> dict[str, str]:
    """File names of the tables: suite and backend, with a digest where two tables share them."""
    plain = {key: slug(f"{value['suite']}-{value['backend']}") for key, value in protocols.items()}
    names = list(plain.values())
    return {
        key: name
        if names.count(name) == 1
        else f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
        for key, name in plain.items()
    }


def slug(text: str) -> str:
    """``text`` as a safe file name and HTML id: letters, digits, dots and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "table"


def short(number: float) -> str:
    """A count in three digits: 373,690 is 374k."""
    for scale, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= 0.9995 * scale:
            return f"{number / scale:.3g}{unit}"
    return f"{number:.3g}"
