"""The leaderboard as Markdown and CSV: the same content as the page, to read in a terminal and to compute with."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from mtrl.leaderboard import details, figures
from mtrl.leaderboard.board import Board
from mtrl.leaderboard.heatmap import Column
from mtrl.leaderboard.outside import Outside, finals
from mtrl.leaderboard.page import protocol_facts
from mtrl.leaderboard.row import Row
from mtrl.leaderboard.runs import Run
from mtrl.leaderboard.svg import clean, shorten
from mtrl.leaderboard.tables import Table

Line = Sequence[Any]


def markdown(board: Board) -> str:
    """The whole leaderboard; plots are links to the SVG files beside it."""
    parts = ["# mtrl leaderboard\n"]
    for table in board.tables:
        parts += _section(board, table)
    changed = board.dirty_files
    if changed:
        files = "".join(f"- {cell(file)}\n" for file in changed)
        parts.append(f"## Written from a changed tree\n\n{files}")
    faults = [omission for omission in board.omitted if omission.fault]
    if faults:
        lines = [[omission.file, omission.reason.replace("\n", "; ")] for omission in faults]
        parts.append("## Left out\n\n" + grid(["file", "reason"], lines))
    return "\n".join(parts)


def _section(board: Board, table: Table) -> Iterator[str]:
    """What there is of a suite: protocol, rows by budget, tasks, published numbers, plots, runs, commands."""
    facts = [f"{name}: {cell(value)}" for name, value in protocol_facts(table)]
    yield f"## {cell(table.suite)}\n"
    yield "; ".join(facts) + "\n"
    for budget, rows in table.budgets:
        yield f"Planned for {budget:,} env steps:\n"
        yield grid(RESULT_COLUMNS, [_result(table, row) for row in rows])
    remarks = [
        f"- {cell(table.name(row))}: {cell(text)}\n"
        for row in table.rows
        for text in row.remarks
    ]
    if remarks:
        yield "".join(remarks)
    columns = board.columns(table)
    if len(table.tasks) > 1 and columns:
        yield _task_grid(table, columns)
    published = finals(board.published(table))
    if published:
        yield _published_grid(published)
    for name, (title, _) in board.figures(table).items():
        yield f"![{title}](plots/{table.slug}-{name}.svg)\n"
    lines = [_seed(row, run) for row, run in _runs(table)]
    yield grid(["run", *details.SEED_COLUMNS, "file"], lines)
    for row in table.rows:
        for command in row.first.provenance["commands"]:
            yield f"{cell(row.label)}: `{_code(command)}`\n"


def _task_grid(table: Table, columns: Sequence[Column]) -> str:
    """Successes of episodes, tasks as lines, and the mean over tasks below."""
    rates = [
        [f"{pair[0]}/{pair[1]}" if pair else "" for pair in column.counts] for column in columns
    ]
    lines = [[task, *(rate[index] for rate in rates)] for index, task in enumerate(table.tasks)]
    means = ["" if column.mean is None else f"{column.mean:.3f}" for column in columns]
    return grid(["task", *(column.label for column in columns)], [*lines, ["mean", *means]])


def _published_grid(entries: Sequence[Outside]) -> str:
    lines = [
        [entry.label, entry.shown, str(entry.env_steps or ""), entry.statistic, entry.note, entry.source]
        for entry in entries
    ]  # fmt: skip
    head = ["published elsewhere", "success", "env steps", "statistic", "note", "source"]
    return grid(head, lines)


RESULT_COLUMNS = ("method", "env steps", "success", "vs plain", "P(better)", "IQM", "worst tasks", "gap", "seeds",
                  "notes", "hours", "parameters", "hardware")  # fmt: skip


def _result(table: Table, row: Row) -> list[str]:
    summary, comparison = row.summaries, table.comparisons.get(row)
    notes = [*(["preliminary"] if row.preliminary else []), *row.tags]
    if comparison and comparison.steps:
        notes.append(
            f"{figures.UNEQUAL} {comparison.steps[0]} against {comparison.steps[1]} env steps"
        )
    return [
        row.label,
        row.taken_text,
        figures.headline_text(row),
        figures.difference_text(comparison) if comparison else "",
        f"{comparison.improvement:.2f}" if comparison else "",
        *(f"{summary[key]:.3f}" if summary else "" for key in ("iqm", "worst", "gap")),
        str(row.seeds),
        ", ".join(notes),
        f"{summary['hours']:.2f}" if summary else "",
        f"{row.first.method['num_parameters']:,}",
        row.hardware,
    ]


def _seed(row: Row, run: Run) -> list[Any]:
    return [row.label, *details.seed_facts(run), _Raw(f"[{cell(run.file)}](<{run.link}>)")]


def _runs(table: Table) -> Iterator[tuple[Row, Run]]:
    return ((row, run) for row in table.rows for run in row.runs)


class _Raw(str):
    """Text that is Markdown already."""


def cell(value: object) -> str:
    """``value`` as plain text in a Markdown table: nothing in it is a link, markup, HTML or the end of a cell."""
    text = shorten(" ".join(clean(value).split()), 500)
    return re.sub(r"([\\`*_\[\]<>|#!~&])", r"\\\1", text)


def _code(command: str) -> str:
    return shorten(" ".join(clean(command).split()), 2000).replace("`", "'")


def grid(head: Sequence[str], lines: Sequence[Line]) -> str:
    """A Markdown table."""
    rows = [
        [value if isinstance(value, _Raw) else cell(value) for value in line]
        for line in (head, *lines)
    ]
    rule = "|" + "---|" * len(head)
    shown = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([shown[0], rule, *shown[1:]]) + "\n"


def csv_files(board: Board) -> dict[str, str]:
    """CSV files by name: rows, tasks, curves, seeds, published numbers, files left out."""
    return {
        "rows.csv": _csv(_row_lines(board)),
        "tasks.csv": _csv(_task_lines(board)),
        "curves.csv": _csv(_curve_lines(board)),
        "profiles.csv": _csv(_profile_lines(board)),
        "seeds.csv": _csv(_seed_lines(board)),
        "published.csv": _csv(_published_lines(board)),
        "left_out.csv": _csv(
            [("file", "reason"), *((o.file, o.reason) for o in board.omitted if o.fault)]
        ),
    }


def _row_lines(board: Board) -> Iterator[Line]:
    keys = ("iqm", "worst", "gap", "best", "final_step", "hours")
    yield ("table", "suite", "method", "planned_env_steps", "env_steps_least", "env_steps_most", "planned_once",
           "seeds", "diverged", "failed", "running", "preliminary", "success", "low", "high",
           "success_with_last_scores", "baseline", "difference", "difference_low", "difference_high",
           "equal_env_steps", "probability_of_improvement", "iqm", "worst_k", "worst_k_mean", "optimality_gap",
           "best_over_training", "final_step_success", "hours", "num_parameters", "precision", "hardware", "commits",
           "commands")  # fmt: skip
    for table in board.tables:
        for row in table.rows:
            statuses = (
                len(row.with_status(status)) for status in ("diverged", "failed", "running")
            )
            found = table.comparisons.get(row)
            baseline = found.baseline.label if found else ""
            difference = found.difference if found else None
            interval = (
                (difference.value, difference.low, difference.high)
                if difference
                else ("", "", "")
            )
            equal_steps = found.steps is None if found else ""
            improvement = found.improvement if found else ""
            summary = [row.summaries.get(key, math.nan) for key in keys]
            yield (table.slug, table.suite, row.label, row.budget, *row.taken, row.first.straight, row.seeds, *statuses,
                   row.preliminary, row.headline.value, row.headline.low, row.headline.high, row.last_scores,
                   baseline, *interval, equal_steps, improvement, summary[0], row.worst_k,
                   *summary[1:], row.first.method["num_parameters"], row.first.provenance["precision"] or "",
                   row.hardware, " ".join(row.commits), "; ".join(row.first.provenance["commands"]))  # fmt: skip


def _task_lines(board: Board) -> Iterator[Line]:
    yield (
        "table",
        "method",
        "reference",
        "task",
        "successes",
        "episodes",
        "success",
        "different_levels",
        "wilson_low",
        "wilson_high",
    )
    for table in board.tables:
        for column in board.columns(table):
            for place, (task, pair) in enumerate(zip(table.tasks, column.counts)):
                if pair:
                    wins, episodes = pair
                    levels, interval = column.levels[place], column.interval(place)
                    yield (
                        table.slug,
                        column.label,
                        column.reference,
                        task,
                        wins,
                        episodes,
                        wins / episodes,
                        "" if levels is None else levels,
                        *(interval or ("", "")),
                    )


def _curve_lines(board: Board) -> Iterator[Line]:
    yield "table", "method", "env_steps", "hours", "success", "half_width"
    for table in board.tables:
        for row in table.rows:
            for point in zip(*figures.mean_curve(row)) if row.seeds else ():
                yield table.slug, table.name(row), int(point[0]), *point[1:]


def _profile_lines(board: Board) -> Iterator[Line]:
    yield "table", "method", "threshold", "share_above"
    for table in board.tables:
        for row in table.rows if len(table.tasks) > 1 else ():
            for point in zip(*figures.profile_curve(row)) if row.seeds else ():
                yield table.slug, table.name(row), *point


def _seed_lines(board: Board) -> Iterator[Line]:
    yield ("table", "method", "planned_env_steps", "run_id", "seed", "status", "counted", "env_steps",
           "gradient_steps", "evaluations", "success", "hours", "precision", "git_commit", "git_dirty",
           "config_sha256", "file")  # fmt: skip
    for table in board.tables:
        for row, run in _runs(table):
            last = (
                (float(run.rates[-1].mean()), float(run.hours[-1]))
                if len(run.env_steps)
                else ("", "")
            )
            yield (table.slug, row.label, row.budget, run.run_id, run.seed, run.status, run.counted,
                   run.budget["env_steps"], run.budget["gradient_steps"], len(run.env_steps), *last,
                   run.provenance["precision"] or "", run.provenance["git_commit"] or "", run.dirty,
                   run.provenance["config_sha256"], run.file)  # fmt: skip


def _published_lines(board: Board) -> Iterator[Line]:
    yield (
        "suite",
        "label",
        "success_low",
        "success_high",
        "env_steps",
        "statistic",
        "source",
        "note",
    )
    for entry in board.outside:
        yield (entry.suite, entry.label, *entry.success, entry.env_steps or "", entry.statistic, entry.source,
               entry.note)  # fmt: skip


def _csv(lines: Iterator[Line] | Sequence[Line]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_csv_cell(value) for value in line] for line in lines)
    return text.getvalue()


def _csv_cell(value: Any) -> str:
    """A number in six digits; a text that a spreadsheet would take for a formula gets an apostrophe."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    text = clean(value) if not isinstance(value, str) else clean(value.replace("\n", "; "))
    return (
        f"'{text}"
        if isinstance(value, str) and text[:1] in ("=", "+", "-", "@", "\t")
        else text
    )
