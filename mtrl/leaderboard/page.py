"""The page: one HTML file that needs nothing else, neither a network nor a server."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

from mtrl.leaderboard import details, figures, svg
from mtrl.leaderboard.board import Board
from mtrl.leaderboard.heatmap import Column
from mtrl.leaderboard.outside import Outside, finals
from mtrl.leaderboard.svg import escape
from mtrl.leaderboard.tables import Row, Table, short

TITLE = "<title>mtrl leaderboard</title>"
_ASSETS = Path(__file__).parent / "assets"
_MINI_WIDTH, _MINI_HEIGHT = 164, 24


def asset(name: str) -> str:
    """The text of a file that ships with the leaderboard."""
    return (_ASSETS / name).read_text(encoding="utf-8")


def render(board: Board) -> str:
    """The whole page. What comes from files is escaped, and a policy forbids all but its own style and script."""
    style, script = asset("plot.css") + asset("page.css"), asset("page.js")
    policy = (
        f"default-src 'none'; style-src 'sha256-{_digest(style)}'; script-src 'sha256-{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    body = "".join(_section(board, table) for table in board.tables)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{TITLE}\n<style>{style}</style>\n</head>\n<body>\n"
        f"{_header(board)}\n<main>\n{body}{details.omissions(board.omitted)}</main>\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _header(board: Board) -> str:
    rows = [row for table in board.tables for row in table.rows]
    counts = ", ".join(
        (
            counted(sum(len(row.runs) for row in rows), "run"),
            counted(len({row.method for row in rows}), "method"),
            counted(len({table.suite for table in board.tables}), "suite"),
        )
    )
    faults = sum(omission.fault for omission in board.omitted)
    links = [
        f'<a href="#{table.slug}">{escape(table.suite)} <small>{escape(table.protocol["backend"])}</small></a>'
        for table in board.tables
    ]
    if faults:
        links.append(f'<a href="#left-out">{counted(faults, "file")} left out</a>')
    return f'<header><h1>mtrl leaderboard</h1>\n<p class="lead">{counts}</p>\n<nav>{"".join(links)}</nav></header>'


def counted(count: int, noun: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def protocol_facts(table: Table) -> list[tuple[str, str]]:
    """The protocol of a table in words: what must be equal for numbers to stand side by side."""
    protocol = table.protocol
    versions = [f"{name} {' and '.join(found)}" for name, found in table.packages.items()]
    return [
        ("tasks", str(len(table.tasks))),
        ("reward", str(protocol["reward_version"])),
        ("backend", str(protocol["backend"])),
        ("success", str(protocol["success"])),
        ("evaluation", f"{protocol['episodes_per_task']} episodes per task, seed {protocol['eval_seed']}"),
        ("policy", "deterministic" if protocol["deterministic"] else "sampling"),
        ("horizon", f"{protocol['horizon']:,} steps"),
        ("goals", str(protocol["goals"])),
        *([("engine", ", ".join(versions))] if versions else []),
    ]


def _section(board: Board, table: Table) -> str:
    facts = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in protocol_facts(table)
    )
    plots = board.figures(table)
    cards = [_figure(*plots[name]) for name in plots if name not in ("success", "tasks")]
    heat = _figure(*plots["tasks"], wide=True) if "tasks" in plots else ""
    return (
        f'<section id="{table.slug}">\n<h2>{escape(table.suite)}</h2>\n<dl class="protocol">{facts}</dl>\n'
        f"{_board(table, board.published(table), board.columns(table))}\n"
        f'<div class="figures">{heat}{"".join(cards)}</div>\n{details.rows(table)}\n</section>\n'
    )


def _figure(title: str, drawing: str, wide: bool = False) -> str:
    kind = ' class="wide"' if wide else ""
    return f'<figure{kind}><h3>{escape(title)}</h3><div class="scroll">{drawing}</div></figure>\n'


def _board(table: Table, published: Sequence[Outside], columns: Sequence[Column]) -> str:
    heads = [("method", "method"), ("chart", ""), ("", "success"), ("", "vs plain"), ("", "P(better)"), ("", "IQM"),
             ("", f"worst {table.rows[0].worst_k}"), ("", "gap"), ("", "seeds"), ("", "hours"), ("", "parameters"),
             ("", "hardware")]  # fmt: skip
    cells = "".join(
        f'<th class="{kind}">{f"<button>{escape(text)}</button>" if text else ""}</th>' for kind, text in heads
    )
    position = {row: index for index, row in enumerate(row for row in table.rows if row.seeds)}
    bodies = []
    for budget, rows in table.budgets:
        title = f'<tr class="budget"><th colspan="{len(heads)}">{budget:,} env steps</th></tr>'
        lines = [_line(table, row, svg.color(position.get(row, svg.COLORS))) for row in rows]
        bodies.append(f"<tbody>{title}{''.join(lines)}</tbody>\n")
    if any(column.reference for column in columns):
        title = f'<tr class="budget"><th colspan="{len(heads)}">single-task reference, one run per task</th></tr>'
        lines = [_reference_line(column, len(heads)) for column in columns if column.reference]
        bodies.append(f'<tbody class="published">{title}{"".join(lines)}</tbody>\n')
    if published:
        title = (
            f'<tr class="budget"><th colspan="{len(heads)}">published elsewhere, by other code and evaluation</th></tr>'
        )
        lines = [_published_line(entry, len(heads)) for entry in finals(published)]
        bodies.append(f'<tbody class="published">{title}{"".join(lines)}</tbody>\n')
    return f'<div class="board"><table>\n<thead><tr>{cells}</tr></thead>\n{"".join(bodies)}</table></div>'


def _line(table: Table, row: Row, color: str) -> str:
    name = f'<span class="swatch {color}"></span><a href="#{details.row_id(table, row)}">{escape(row.label)}</a>'
    tags = [f'<span class="tag">{text}</span>' for text in (["preliminary"] if row.preliminary else [])]
    tags += [
        f'<span class="tag bad">{len(row.with_status(status))} {status}</span>'
        for status in ("diverged", "failed", "running")
        if row.with_status(status)
    ]
    comparison = table.comparisons.get(row)
    summary = row.summaries
    cells = [
        _cell("method", "", row.label, f"{name}<div>{''.join(tags)}</div>"),
        _cell("chart", "", "", _mini(row, color)),
        _cell("success", "success", row.headline.value, _estimate(figures.estimate_text(row.headline))),
        _cell("", "vs plain", comparison.difference.value if comparison else math.nan,
              _estimate(figures.estimate_text(comparison.difference, "+")) if comparison else ""),
        _cell("", "P(better)", comparison.improvement if comparison else math.nan,
              f"{comparison.improvement:.2f}" if comparison else ""),
        *(_cell("", name, summary.get(key, math.nan), f"{summary[key]:.2f}" if summary else "")
          for key, name in (("iqm", "IQM"), ("worst", f"worst {row.worst_k}"), ("gap", "gap"))),
        _cell("", "seeds", row.seeds, str(row.seeds)),
        _cell("", "hours", summary.get("hours", math.nan), f"{summary['hours']:.2f}" if summary else ""),
        _cell("", "parameters", row.first.method["num_parameters"], short(row.first.method["num_parameters"])),
        _cell("", "hardware", row.hardware, escape(row.hardware)),
    ]  # fmt: skip
    return f"<tr>{''.join(cells)}</tr>\n"


def _cell(kind: str, name: str, value: object, content: str) -> str:
    sort = "" if isinstance(value, float) and math.isnan(value) else escape(value)
    described = f' data-label="{escape(name)}"' if name else ""
    return f'<td class="{kind}"{described} data-value="{sort}">{content}</td>'


def _estimate(text: str) -> str:
    value, bracket, interval = text.partition(" [")
    return f'<span>{value} <span class="interval">{bracket.strip()}{interval}</span></span>' if bracket else value


def _mini(row: Row, color: str) -> str:
    frame = svg.Frame(8, 0, _MINI_WIDTH - 8, _MINI_HEIGHT, (0.0, 1.0))
    return _scale(frame, figures.marks(row, frame, _MINI_HEIGHT / 2, color), figures.estimate_text(row.headline))


def _scale(frame: svg.Frame, marks: str, title: str) -> str:
    middle = _MINI_HEIGHT / 2
    rail = svg.line(frame.left, middle, frame.right, middle, "grid")
    ends = "".join(svg.line(frame.x(at), middle - 4, frame.x(at), middle + 4, "grid") for at in (0.0, 0.5, 1.0))
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
    low, high = (frame.x(value) for value in entry.success)
    marks = svg.line(low, 12, high, 12, "line outside") if low < high else ""
    facts = [entry.statistic, f"{entry.env_steps:,} env steps" if entry.env_steps else "", entry.note, entry.source]
    if entry.num_parameters:
        facts.insert(2, f"{short(entry.num_parameters)} parameters")
    chart = _scale(frame, marks + svg.diamond((low + high) / 2, 12), entry.shown)
    return (
        f'<tr><td class="method">{escape(entry.label)}</td><td class="chart">{chart}</td>'
        f'<td class="success" data-label="success">{entry.shown}</td>'
        f'<td class="source" colspan="{width - 3}">{escape("; ".join(filter(None, facts)))}</td></tr>\n'
    )
