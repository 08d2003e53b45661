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

from mtrl import statistics
from mtrl.envs import suite_ids
from mtrl.leaderboard.labels import labels, short
from mtrl.leaderboard.row import Estimate, Row
from mtrl.leaderboard.runs import Run


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A row against its plain baseline at the same budget.

    Attributes:
        improvement: probability that a run of the row beats one of the baseline on a random task.
        preliminary: whether either side has few seeds.
        steps: env steps taken by the row and by the baseline, in words, where these differ.
    """

    baseline: Row
    difference: Estimate
    improvement: float
    preliminary: bool
    steps: tuple[str, str] | None


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
            row.label
            if row.budget == self.budgets[0][0]
            else f"{row.label}, {short(row.budget)}"
        )

    @cached_property
    def comparisons(self) -> dict[Row, Comparison]:
        """Map each row that has a plain baseline to its difference from that baseline."""
        found = {}
        for _, rows in self.budgets:
            for row in rows:
                baseline = _baseline(row, rows)
                if baseline is not None and row.seeds and baseline.seeds:
                    values = statistics.welch_interval(row.seed_means, baseline.seed_means)
                    chance = statistics.probability_of_improvement(row.scores, baseline.scores)
                    weak = row.preliminary or baseline.preliminary
                    steps = (row.taken_text, baseline.taken_text)
                    unequal = steps if row.taken != baseline.taken else None
                    found[row] = Comparison(baseline, Estimate(*values), chance, weak, unequal)
        return found

    @property
    def packages(self) -> dict[str, list[str]]:
        """Versions of the simulators behind the rows."""
        versions: dict[str, set[str]] = defaultdict(set)
        for run in (run for row in self.rows for run in row.runs):
            for name in ("mujoco", "metaworld", "minigrid", "envpool", "gymnasium"):
                if name in run.provenance["packages"] and _used(name, self):
                    versions[name].add(str(run.provenance["packages"][name]))
        return {name: sorted(found) for name, found in sorted(versions.items())}


def _used(package: str, table: Table) -> bool:
    """Whether a simulator package has a part in a table's numbers."""
    if package == "envpool":
        return "envpool" in str(table.protocol["backend"])
    version = table.protocol["reward_version"]
    if package == "gymnasium" or version == "own":
        return package == "gymnasium" and version == "own"
    return (package == "minigrid") == (version == "stock")


def _alike(run: Run, other: Run) -> int:
    """Settings that two runs share."""
    theirs = other.method["params"]
    return sum(
        name in theirs and theirs[name] == value for name, value in run.method["params"].items()
    )


def _baseline(row: Row, rows: Sequence[Row]) -> Row | None:
    """The plain method of the same agent; for that one, and where there is none, plain ``mtsac``.

    Of several rows of that method it is one that was planned once, if there is any, then the one that shares most
    settings with ``row``, then the one with most seeds.
    """
    for name in (str(row.first.method["agent"]), "mtsac"):
        plain = [
            other
            for other in rows
            if other.method == name and other.method != row.method and other.seeds
        ]
        if plain:
            return max(
                plain,
                key=lambda other: (
                    other.first.straight,
                    _alike(row.first, other.first),
                    other.seeds,
                ),
            )
    return None


def tables(runs: Iterable[Run]) -> list[Table]:
    """Runs grouped into tables and rows. Suites of several tasks first, then in the suites' own order."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.protocol_key].append(run)
    order = {suite: index for index, suite in enumerate(suite_ids())}
    sort_key = {
        key: (
            len(members[0].tasks) == 1,
            order.get(members[0].protocol["suite"], len(order)),
            key,
        )
        for key, members in groups.items()
    }
    slugs = _slugs({key: members[0].protocol for key, members in groups.items()})
    return [_table(groups[key], slugs[key]) for key in sorted(groups, key=sort_key.__getitem__)]


def _table(runs: list[Run], slug: str) -> Table:
    groups: dict[tuple[int, str], list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.planned_steps, run.method_key].append(run)
    names = labels({key: members[0] for key, members in groups.items()})
    rows = [
        Row(names[key], tuple(sorted(members, key=lambda run: run.seed)))
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


def _slugs(protocols: dict[str, dict[str, Any]]) -> dict[str, str]:
    """File names of the tables: suite and backend, with a digest where two tables share them."""
    plain = {
        key: slug(f"{value['suite']}-{value['backend']}") for key, value in protocols.items()
    }
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
