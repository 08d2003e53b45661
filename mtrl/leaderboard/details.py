"""The last part of the page: the runs behind each row, and the files that were left out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mtrl.leaderboard.files import Omission
from mtrl.leaderboard.row import Row
from mtrl.leaderboard.runs import Run
from mtrl.leaderboard.svg import escape, shorten
from mtrl.leaderboard.tables import Table, slug


def row_id(table: Table, row: Row) -> str:
    """The HTML id of a row's details."""
    return f"{table.slug}-row-{table.rows.index(row) + 1}-{slug(row.method)}"


def rows(table: Table) -> str:
    """One collapsed part per row: command, settings, commits, and every seed with its file and status."""
    folds = "".join(_fold(table, row) for row in table.rows)
    return f'<div class="runs"><h3>Runs</h3>{folds}</div>'


def _fold(table: Table, row: Row) -> str:
    run = row.first
    facts = [
        ("agent", run.method["agent"]),
        ("network", run.method["network"]),
        ("heads", run.method["heads"]),
        ("aggregator", run.method["aggregator"]),
        ("curriculum", run.method["curriculum"]),
        ("commit", ", ".join(row.commits)),
        ("precision", run.provenance["precision"] or "not recorded"),
        ("env steps", row.taken_text),
        ("hardware", row.hardware),
        ("system", ", ".join(sorted({str(each.provenance["os"]) for each in row.runs}))),
        ("python", ", ".join(sorted({str(each.provenance["python"]) for each in row.runs}))),
    ]
    if row.summaries:
        facts += [("best over training", f"{row.summaries['best']:.3f}"),
                  ("success at the final step", f"{row.summaries['final_step']:.3f}")]  # fmt: skip
    lines = "".join(
        f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in facts if value
    )
    commands = "\n".join(run.provenance["commands"]) or "started from a program"
    count = f"{len(row.runs)} run{'' if len(row.runs) == 1 else 's'}"
    return (
        f'<details id="{row_id(table, row)}"><summary><b>{escape(row.label)}</b> '
        f'<span class="lead">{count}, {row.taken_text} env steps</span></summary><div class="inside">'
        f"<pre>{escape(shorten(commands, 4000))}</pre>"
        f'<div class="scroll"><table class="facts">{lines}</table></div>{_seeds(row)}{_settings(run.method["params"])}'
        "</div></details>\n"
    )


def seed_facts(run: Run) -> list[str]:
    """A run in a line: seed, status, success, env steps, gradient steps, hours, commit."""
    evaluated = len(run.env_steps) > 0
    success = f"{float(run.rates[-1].mean()):.3f}" if evaluated else "never evaluated"
    if evaluated and run.status != "finished":
        how = "counted as 0" if run.counted else "not counted"
        success += f" at {int(run.env_steps[-1]):,}, {how}"
    hours = f"{float(run.hours[-1]):.2f}" if evaluated else ""
    commit = str(run.provenance["git_commit"] or "unknown")[:12]
    return [str(run.seed), run.status, success, f"{int(run.budget['env_steps']):,}",
            f"{int(run.budget['gradient_steps']):,}", hours, commit]  # fmt: skip


SEED_COLUMNS = ("seed", "status", "success", "env steps", "gradient steps", "hours", "commit")


def _seeds(row: Row) -> str:
    head = "".join(f"<th>{name}</th>" for name in (*SEED_COLUMNS, "config", "file"))
    lines = []
    for run in row.runs:
        facts = seed_facts(run)
        facts[1:2] = []
        status = (
            run.status
            if run.status == "finished"
            else f'<span class="tag bad">{run.status}</span>'
        )
        cells = "".join(f"<td>{escape(fact)}</td>" for fact in facts[1:])
        config = escape(run.provenance["config_sha256"][:12])
        file = f'<a href="{escape(run.link)}">{escape(run.file)}</a>'
        lines.append(
            f"<tr><td>{facts[0]}</td><td>{status}</td>{cells}<td>{config}</td><td>{file}</td></tr>"
        )
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def _settings(params: dict[str, Any]) -> str:
    items = "".join(
        f"<div><dt>{escape(shorten(key, 80))}</dt><dd>{escape(shorten(_value(value), 200))}</dd></div>"
        for key, value in params.items()
        if key != "seed"
    )
    return f'<details><summary>settings</summary><div class="inside"><dl class="settings">{items}</dl></div></details>'


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def dirty(files: Sequence[str]) -> str:
    """Result files of runs whose code differed from its commit."""
    if not files:
        return ""
    items = "".join(f"<li>{escape(shorten(file, 300))}</li>\n" for file in files)
    title = f"Written from a changed tree: {len(files)} file{'' if len(files) == 1 else 's'}"
    return (
        f'<section id="changed-tree"><details><summary>{title}</summary><div class="inside"><p class="lead">The commit '
        f'in such a file is not all of the code that ran.</p><ul class="left">{items}</ul></div></details></section>\n'
    )


def omissions(omitted: Sequence[Omission]) -> str:
    """Files that are not part of the page, each with its reason."""
    if not omitted:
        return ""
    faults = [omission for omission in omitted if omission.fault]
    others = [omission for omission in omitted if not omission.fault]
    parts = []
    if faults:
        parts.append(f"<h2>Left out</h2>{_list(faults)}")
    if others:
        parts.append(
            f"<details><summary>Other files in the folder: {len(others)}</summary>{_list(others)}</details>"
        )
    return f'<section id="left-out">{"".join(parts)}</section>\n'


def _list(omitted: Sequence[Omission]) -> str:
    items = "".join(
        f"<li><b>{escape(shorten(omission.file, 300))}</b>: "
        f"{'<br>'.join(escape(shorten(line, 400)) for line in omission.reason.splitlines())}</li>\n"
        for omission in omitted
    )
    return f'<ul class="left">{items}</ul>'
