"""The page: one HTML file that needs nothing else, neither a network nor a server."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from mtrl.envs import get_suite
from mtrl.leaderboard import details, svg
from mtrl.leaderboard.board import Board
from mtrl.leaderboard.files import PAGE_TITLE
from mtrl.leaderboard.score_table import remarks, score_table
from mtrl.leaderboard.svg import escape
from mtrl.leaderboard.tables import Table
from mtrl.records.results import Record

_ASSETS = Path(__file__).parent / "assets"


def asset(name: str) -> str:
    """The text of a file that ships with the leaderboard."""
    return (_ASSETS / name).read_text(encoding="utf-8")


def render(board: Board, docs: str | None = None) -> str:
    """The whole page. What comes from files is escaped, and a policy forbids all but its own style and script.

    Args:
        docs: address of the built documentation, where rows link to their method's page; None for no links.
    """
    style, script = asset("plot.css") + asset("page.css"), asset("page.js")
    policy = (
        f"default-src 'none'; style-src 'sha256-{_digest(style)}'; script-src 'sha256-{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    body = "".join(_section(board, table, docs) for table in board.tables)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{PAGE_TITLE}\n<style>{style}</style>\n</head>\n<body>\n"
        f"{_header(board)}\n<main>\n{body}{details.dirty(board.dirty_files)}"
        f"{details.omissions(board.omitted)}</main>\n"
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
    return (
        f'<header><h1>mtrl leaderboard</h1>\n<p class="lead">{counts}</p>\n<nav>{"".join(links)}</nav>\n'
        f"{_filter(board)}</header>"
    )


def _filter(board: Board) -> str:
    """Choices of a suite and a budget; the script shows them, since they do nothing without it."""
    suites = dict.fromkeys(table.suite for table in board.tables)
    budgets = {budget for table in board.tables for budget, _ in table.budgets}
    choices = (
        ("suite", [(suite, suite) for suite in suites]),
        ("budget", [(str(budget), f"{budget:,} env steps") for budget in sorted(budgets)]),
    )
    fields = []
    for name, values in choices:
        options = "".join(
            f'<option value="{escape(value)}">{escape(shown)}</option>'
            for value, shown in values
        )
        fields.append(
            f'<label>{name} <select name="{name}"><option value="">all</option>{options}</select></label>'
        )
    return f'<form class="filter" hidden>{"".join(fields)}<output></output></form>'


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
        (
            "evaluation",
            f"{protocol['episodes_per_task']} episodes per task, {_evaluation_seed(protocol)}",
        ),
        ("measures", measures(table)),
        ("policy", "deterministic" if protocol["deterministic"] else "sampling"),
        ("horizon", f"{protocol['horizon']:,} steps"),
        ("goals", str(protocol["goals"])),
        *([("different levels", levels)] if (levels := levels_in_words(table)) else []),
        *([("engine", ", ".join(versions))] if versions else []),
    ]


def _evaluation_seed(protocol: Record) -> str:
    seed = protocol["eval_seed"]
    return "goals of the run's own seed" if seed is None else f"goals of seed {seed}"


def measures(table: Table) -> str:
    """What a success rate of the table says."""
    suite = get_suite(table.suite)
    if suite.measures:
        return suite.measures
    if suite.level_pool is not None:
        return "success on levels that training never saw, by content; a task with a single level is evaluated on it"
    if suite.discrete:
        return (
            "success on levels as training draws them: the level seeds are new, but training has seen most levels of "
            "the tasks that have few; this is no measure of generalisation"
        )
    if table.protocol["eval_seed"] is None:
        return "success on the goals that training draws from"
    return "success on goals of a seed that training need not have had"


def levels_in_words(table: Table) -> str:
    """Tasks whose evaluation repeats levels, with the number of different ones; empty if there are none."""
    episodes = int(table.protocol["episodes_per_task"])
    known = [run.distinct for row in table.rows for run in row.runs if run.distinct is not None]
    words = []
    for task, counts in zip(table.tasks, zip(*known)):
        if min(counts) < episodes:
            words.append(f"{task} {' to '.join(map(str, sorted({min(counts), max(counts)})))}")
    return f"{', '.join(words)} of {episodes}" if words else ""


def _section(board: Board, table: Table, docs: str | None) -> str:
    facts = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in protocol_facts(table)
    )
    plots = board.figures(table)
    wide = "tasks" in plots and svg.width_of(plots["tasks"][1]) > 1.2 * svg.WIDTH
    order = ["tasks", "curves-steps", "curves-hours", "profile", "differences"]
    order = order if wide else [*order[1:3], "tasks", *order[3:]]
    cards = [
        _figure(*plots[name], wide=wide and name == "tasks") for name in order if name in plots
    ]
    name = f"{escape(table.suite)} <small>{escape(table.protocol['backend'])}</small>"
    return (
        f'<section id="{table.slug}" data-suite="{escape(table.suite)}">\n<h2>{name}</h2>\n'
        f'<dl class="protocol">{facts}</dl>\n'
        f"{score_table(table, board.published(table), board.columns(table), docs)}\n{remarks(table)}"
        f'<div class="figures">{"".join(cards)}</div>\n{details.rows(table)}\n</section>\n'
    )


def _figure(title: str, drawing: str, wide: bool = False) -> str:
    kind = ' class="wide"' if wide else ""
    return (
        f'<figure{kind}><h3>{escape(title)}</h3><div class="scroll">{drawing}</div></figure>\n'
    )
