"""Success per task and method as a colored grid, with single-task specialists beside it as a reference."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from mtrl.leaderboard import svg
from mtrl.leaderboard.labels import short
from mtrl.leaderboard.row import Row
from mtrl.leaderboard.runs import settings_of
from mtrl.leaderboard.tables import Table
from mtrl.records.rows import changes
from mtrl.statistics import wilson_interval

_CELL, _LINE = 46, 25


@dataclasses.dataclass(frozen=True)
class Column:
    """One method: successes and episodes per task, pooled over its seeds; None where there is no run.

    Attributes:
        levels: different levels or goals among the episodes of each task; None where records do not tell.
        deterministic: whether the policy acts without sampling, so that a level played again gives nothing new.
    """

    label: str
    counts: list[tuple[int, int] | None]
    levels: list[int | None]
    deterministic: bool
    reference: bool = False

    def interval(self, task: int) -> tuple[float, float] | None:
        """Wilson's interval of a task's success, where its episodes are as many independent trials."""
        pair = self.counts[task]
        if pair is None or (self.deterministic and self.levels[task] != pair[1]):
            return None
        return wilson_interval(*pair)

    @property
    def mean(self) -> float | None:
        """Unweighted mean over tasks, if every task has a number."""
        rates = [wins / episodes for wins, episodes in (pair for pair in self.counts if pair)]
        return sum(rates) / len(rates) if len(rates) == len(self.counts) else None


def columns(table: Table, everything: Sequence[Table]) -> list[Column]:
    """A column per row of the table, then one per method that was trained on its tasks one at a time."""
    deterministic = bool(table.protocol["deterministic"])
    own = [
        Column(table.name(row), list(row.task_counts), row.task_levels, deterministic)
        for row in table.rows
        if row.seeds
    ]
    return [*own, *specialists(table, everything)] if len(table.tasks) > 1 else own


def specialists(table: Table, everything: Sequence[Table]) -> list[Column]:
    """The single-task reference: for each method, its runs on suites of one task under otherwise the same protocol.

    Of several rows of a method and task it is the one that ``_standing`` puts first, whatever their scores.
    """
    found: dict[str, dict[str, list[Row]]] = {}
    for other in everything:
        if (
            len(other.tasks) == 1
            and other.tasks[0] in table.tasks
            and _rules(other) == _rules(table)
        ):
            for row in (row for row in other.rows if row.seeds):
                found.setdefault(row.method, {}).setdefault(other.tasks[0], []).append(row)
    result = []
    for method, several in sorted(found.items()):
        rows = {task: min(own, key=_standing) for task, own in several.items()}
        budgets = sorted({row.budget for row in rows.values()})
        budget = " to ".join(dict.fromkeys(short(value) for value in (budgets[0], budgets[-1])))
        counts = [rows[task].task_counts[0] if task in rows else None for task in table.tasks]
        levels = [rows[task].task_levels[0] if task in rows else None for task in table.tasks]
        deterministic = bool(table.protocol["deterministic"])
        label = f"{method}, one task, {budget}"
        result.append(Column(label, counts, levels, deterministic, reference=True))
    return result


def _standing(row: Row) -> tuple[int, int, bool, int, str]:
    """Sort key of a method's rows that ignores their scores: largest budget, fewest settings that differ from the
    method's preset, planned once, most seeds, first file."""
    differing = len(changes(settings_of(row.first.method, row.first.protocol)))
    return -row.budget, differing, not row.first.straight, -row.seeds, row.first.file


def _rules(table: Table) -> str:
    """The protocol but for which tasks; horizons differ between tasks of MiniGrid suites."""
    rules = {
        key: value
        for key, value in table.protocol.items()
        if key not in ("suite", "tasks", "horizon", "goal_seed", "distinct_levels")
    }
    return json.dumps(rules, sort_keys=True)


def heatmap(table: Table, shown: Sequence[Column]) -> str:
    """Tasks as lines, methods as columns, pooled success in each cell; the mean below."""
    if not shown or len(table.tasks) < 2:
        return ""
    left = max(svg.text_width(svg.shorten(task, 34)) for task in table.tasks) + 24
    slanted = max(svg.text_width(svg.shorten(column.label, 34)) for column in shown) * 0.71
    top = slanted + 24
    parts = []
    gap = 0
    for index, column in enumerate(shown):
        gap = 14 if column.reference else 0
        x = left + index * _CELL + gap
        parts.append(
            svg.label(x + _CELL / 2, top - 10, svg.shorten(column.label, 34), "key", turn=-45)
        )
        for line, task in enumerate(table.tasks):
            parts.append(_cell(x, top + line * _LINE, column, line, f"{task}, {column.label}"))
        mean = "" if column.mean is None else f"{column.mean:.2f}"
        parts.append(
            svg.label(
                x + _CELL / 2,
                top + len(table.tasks) * _LINE + 22,
                mean,
                "figure strong",
                "middle",
            )
        )
    for line, task in enumerate(table.tasks):
        parts.append(
            svg.label(left - 10, top + line * _LINE + 17, svg.shorten(task, 34), "key", "end")
        )
    parts.append(
        svg.label(
            left - 10,
            top + len(table.tasks) * _LINE + 22,
            "mean over tasks",
            "key strong",
            "end",
        )
    )
    width = left + len(shown) * _CELL + gap + slanted * 0.9 + 8
    height = top + len(table.tasks) * _LINE + 34
    return svg.document(
        "".join(parts),
        width,
        height,
        f"{table.suite}: success per task and method",
        "plot heat",
    )


def _cell(x: float, y: float, column: Column, task: int, name: str) -> str:
    box = f'x="{x + 1:.1f}" y="{y + 1:.1f}" width="{_CELL - 2}" height="{_LINE - 2}" rx="3"'
    pair = column.counts[task]
    if pair is None:
        return f'<rect class="none" {box}><title>{svg.escape(name)}: no run</title></rect>'
    wins, episodes = pair
    rate = wins / episodes
    tip = f"{name}: {wins}/{episodes}, {interval_text(column, task)}"
    shade = f"q{round(rate * 20)}"
    ink = "on" if rate >= 0.5 else "off"
    text = svg.label(x + _CELL / 2, y + 17, f"{rate:.2f}", f"cell {ink}", "middle")
    return f'<g><title>{svg.escape(tip)}</title><rect class="{shade}" {box}/>{text}</g>'


def interval_text(column: Column, task: int) -> str:
    """A task's interval in words, or why there is none."""
    interval = column.interval(task)
    if interval is not None:
        return f"95 % interval {interval[0]:.2f} to {interval[1]:.2f}"
    count = column.levels[task]
    if count is None:
        return "no interval: it is not known how many levels differ"
    return f"no interval: {count} different level{'s' * (count != 1)}"
