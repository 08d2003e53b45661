"""The score table of a suite: success, interval and cost of each method."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mtrl.leaderboard import details, figures, svg
from mtrl.leaderboard.heatmap import Column
from mtrl.leaderboard.labels import short
from mtrl.leaderboard.outside import Outside, finals
from mtrl.leaderboard.row import Row
from mtrl.leaderboard.svg import escape
from mtrl.leaderboard.tables import Comparison, Table
from mtrl.settings.presets import methods

_MINI_WIDTH, _MINI_HEIGHT = 164, 24


def score_table(
    table: Table,
    published: Sequence[Outside],
    columns: Sequence[Column],
    docs: str | None = None,
) -> str:
    """One line per row, in a body of its own for each budget; references below, which sorting leaves alone.

    Args:
        docs: address of the built documentation; None where rows link to no method's page.
    """
    heads = "".join(_head(*head) for head in _heads(table))
    span = len(_heads(table))
    position = {row: index for index, row in enumerate(row for row in table.rows if row.seeds)}
    bodies = []
    for budget, rows in table.budgets:
        title = f'<tr class="budget"><th colspan="{span}">planned for {budget:,} env steps</th></tr>'
        lines = [
            _line(table, row, svg.color(position.get(row, svg.COLORS)), docs) for row in rows
        ]
        bodies.append(f'<tbody data-budget="{budget}">{title}{"".join(lines)}</tbody>\n')
    if any(column.reference for column in columns):
        title = f'<tr class="budget"><th colspan="{span}">single-task reference: one agent for each task</th></tr>'
        lines = [_reference_line(column, span) for column in columns if column.reference]
        bodies.append(f'<tbody class="published">{title}{"".join(lines)}</tbody>\n')
    if published:
        title = f'<tr class="budget"><th colspan="{span}">published elsewhere, by other code and evaluation</th></tr>'
        lines = [_published_line(entry, span) for entry in finals(published)]
        bodies.append(f'<tbody class="published">{title}{"".join(lines)}</tbody>\n')
    return f'<div class="board"><table>\n<thead><tr>{heads}</tr></thead>\n{"".join(bodies)}</table></div>'


def _head(kind: str, text: str, tip: str) -> str:
    described = f' title="{escape(tip)}"' if tip else ""
    return f'<th class="{kind}"{described}>{f"<button>{text}</button>" if text else ""}</th>'


def _heads(table: Table) -> list[tuple[str, str, str]]:
    """The columns as tuples of CSS class, short name and explanation."""
    worst = table.rows[0].worst_k
    return [
        ("method", "method", ""),
        ("chart", "", ""),
        ("", "success", "mean over tasks, then over seeds, with a 95 % t-interval over seeds"),
        (
            "",
            "vs plain",
            "difference from the plain baseline at the same budget, with Welch's 95 % interval; "
            f"{figures.UNEQUAL} where the two took different env steps",
        ),
        ("", "P(better)", "probability that a run beats one of the baseline on a random task"),
        ("", "IQM", "interquartile mean over runs and tasks"),
        ("", f"worst {worst}", f"mean of the {worst} worst tasks of each run"),
        ("", "gap", "optimality gap: mean shortfall from success 1"),
        ("", "seeds", "seeds behind the numbers"),
        ("", "env steps", "env steps taken, summed over tasks"),
        (
            "",
            "hours",
            "wall-clock hours of training per run; of seeds in one process, its hours divided",
        ),
        ("", "parameters", "trained parameters"),
        ("", "hardware", ""),
    ]


def _line(table: Table, row: Row, color: str, docs: str | None) -> str:
    name = f'<span class="swatch {color}"></span><a href="#{details.row_id(table, row)}">{escape(row.label)}</a>'
    tags = [
        f'<span class="tag">{text}</span>'
        for text in (["preliminary"] if row.preliminary else [])
    ]
    tags += [f'<span class="tag bad">{text}</span>' for text in row.tags]
    comparison = table.comparisons.get(row)
    summary = row.summaries
    cells = [
        _cell("method", "", row.label, f"{name}<div>{''.join(tags)}{_links(table, row, docs)}</div>"),
        _cell("chart", "", "", _mini(row, color)),
        _cell("success", "success", row.headline.value, _success(row)),
        _cell("", "vs plain", comparison.difference.value if comparison else math.nan,
              _difference(comparison) if comparison else ""),
        _cell("", "P(better)", comparison.improvement if comparison else math.nan,
              f"{comparison.improvement:.2f}" if comparison else ""),
        *(_cell("", name, summary.get(key, math.nan), f"{summary[key]:.2f}" if summary else "")
          for key, name in (("iqm", "IQM"), ("worst", f"worst {row.worst_k}"), ("gap", "gap"))),
        _cell("", "seeds", row.seeds, str(row.seeds)),
        _cell("", "env steps", row.taken[1], row.taken_text),
        _cell("", "hours", summary.get("hours", math.nan), f"{summary['hours']:.2f}" if summary else ""),
        _cell("", "parameters", row.first.method["num_parameters"], short(row.first.method["num_parameters"])),
        _cell("", "hardware", row.hardware, escape(svg.shorten(row.hardware, 48))),
    ]  # fmt: skip
    return f"<tr>{''.join(cells)}</tr>\n"


def _links(table: Table, row: Row, docs: str | None) -> str:
    """Where to read on: the method's page, and the raw files in the row's details."""
    found = [f'<a href="#{details.row_id(table, row)}">files</a>']
    if docs is not None and row.method in methods():
        page = f"{docs.rstrip('/')}/methods/{row.method}.html"
        found.insert(0, f'<a href="{escape(page)}">method</a>')
    return f'<span class="links">{" · ".join(found)}</span>'


def _cell(kind: str, name: str, value: object, content: str) -> str:
    sort = "" if isinstance(value, float) and math.isnan(value) else escape(value)
    described = f' data-label="{escape(name)}"' if name else ""
    return f'<td class="{kind}"{described} data-value="{sort}">{content}</td>'


def _success(row: Row) -> str:
    """The headline; with diverged seeds also the mean that counts their last evaluations."""
    text = _estimate(figures.headline_text(row))
    if not row.with_status("diverged"):
        return text
    return f'{text}<div class="interval">{row.last_scores:.3f} with last scores</div>'


def _difference(comparison: Comparison) -> str:
    text = _estimate(figures.difference_text(comparison))
    if comparison.steps is None:
        return text
    tip = f"env steps: {comparison.steps[0]} against {comparison.steps[1]}"
    return f'<span title="{escape(tip)}">{text}</span>'


def remarks(table: Table) -> str:
    """Remarks on single rows, shown below the table."""
    items = [
        f"<li><b>{escape(table.name(row))}</b> {figures.FLAW * row.flawed}: {escape(text)}</li>\n"
        for row in table.rows
        for text in row.remarks
    ]
    return f'<ul class="left">{"".join(items)}</ul>\n' if items else ""


def _estimate(text: str) -> str:
    value, bracket, interval = text.partition(" [")
    return (
        f'<span>{value} <span class="interval">{bracket.strip()}{interval}</span></span>'
        if bracket
        else value
    )


def _mini(row: Row, color: str) -> str:
    frame = svg.Frame(8, 0, _MINI_WIDTH - 8, _MINI_HEIGHT, (0.0, 1.0))
    return _scale(
        frame,
        figures.marks(row, frame, _MINI_HEIGHT / 2, color),
        figures.estimate_text(row.headline),
    )


def _scale(frame: svg.Frame, marks: str, title: str) -> str:
    middle = _MINI_HEIGHT / 2
    rail = svg.line(frame.left, middle, frame.right, middle, "rail")
    ends = "".join(
        svg.line(frame.x(at), middle - 4, frame.x(at), middle + 4, "rail")
        for at in (0.0, 0.5, 1.0)
    )
    return svg.document(rail + ends + marks, _MINI_WIDTH, _MINI_HEIGHT, title, "plot mini")


def _reference_line(column: Column, width: int) -> str:
    have = sum(pair is not None for pair in column.counts)
    text = "" if column.mean is None else f"{column.mean:.3f}"
    return (
        f'<tr><td class="method">{escape(column.label)}</td><td class="chart"></td><td class="success">{text}</td>'
        f'<td class="source" colspan="{width - 3}">{have} of {len(column.counts)} tasks</td></tr>\n'
    )


def _published_line(entry: Outside, width: int) -> str:
    frame = svg.Frame(8, 0, _MINI_WIDTH - 8, _MINI_HEIGHT, (0.0, 1.0))
    low = frame.x(entry.success[0])
    high = frame.x(entry.success[1])
    marks = svg.line(low, 12, high, 12, "line outside") if low < high else ""
    facts = [
        entry.statistic,
        f"{entry.env_steps:,} env steps" if entry.env_steps else "",
        entry.note,
        entry.source,
    ]
    if entry.num_parameters:
        facts.insert(2, f"{short(entry.num_parameters)} parameters")
    chart = _scale(frame, marks + svg.diamond((low + high) / 2, 12), entry.shown)
    return (
        f'<tr><td class="method">{escape(entry.label)}</td><td class="chart">{chart}</td>'
        f'<td class="success" data-label="success">{entry.shown}</td>'
        f'<td class="source" colspan="{width - 3}">{escape("; ".join(filter(None, facts)))}</td></tr>\n'
    )
