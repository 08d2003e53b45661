"""Tables of results, from the result files alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import PurePosixPath

from mtrl.leaderboard.figures import FLAW
from mtrl.leaderboard.row import Row
from mtrl.leaderboard.runs import load
from mtrl.leaderboard.tables import Table, short, tables
from mtrl.settings.presets import methods
from scripts.pages.text import RESULTS, code, table

Place = tuple[Table, Row]


@cache
def places() -> tuple[Place, ...]:
    """Every row that has a number, with its table, in the order of the leaderboard."""
    runs, _ = load(RESULTS, RESULTS / "leaderboard")
    found = tables(runs)
    return tuple((each, row) for each in found for row in each.rows if row.seeds)


def success(row: Row) -> str:
    """The mean over seeds, with its interval from five seeds on, and a mark where ``remarks`` must be read."""
    estimate = row.headline
    interval = f" [{estimate.low:.2f}, {estimate.high:.2f}]" if estimate.has_interval else ""
    return f"{estimate.value:.3f}{interval}{f' {FLAW}' * row.flawed}"


def each_seed(row: Row) -> str:
    """Every seed with its own mean over tasks."""
    return ", ".join(
        f"{run.seed}: {mean:.3f}" for run, mean in zip(row.counted, row.seed_means)
    )


def folder(row: Row) -> PurePosixPath:
    """The folder that holds the raw files of a row, below ``results``: ``mt10/3m/mtppo-paced``.

    Its last part is the method with every setting that differs from its preset.
    """
    return PurePosixPath(row.counted[0].file).parent


def hours(row: Row) -> str:
    """Hours of wall clock that a seed took, evaluations included."""
    return f"{row.summaries['hours']:.2f}"


def all_results() -> str:
    """One table a suite and protocol, every row."""
    runs = [run for _, row in places() for run in row.runs]
    dirty = sum(bool(run.provenance["git_dirty"]) for run in runs)
    parts = [
        f"{len(runs)} runs. {dirty} of their files say `git_dirty: true`: the code that made them was never committed "
        "exactly as it ran."
    ]
    for each in dict.fromkeys(place[0] for place in places()):
        rows = [row for other, row in places() if other is each]
        title = (
            each.suite
            if each.protocol["backend"] == "native"
            else f"{each.suite}, other protocol"
        )
        lines = [[_method(row), *_line(row)] for row in rows]
        parts.append(f"## {title}\n\n{_protocol(each)}\n\n{table(['method', *_HEAD], lines)}")
        parts += [f"{FLAW} {folder(row)}: {text}." for row in rows for text in row.remarks]
    return "\n\n".join(parts)


def of_method(method: str) -> str:
    """The rows of one method preset, over all suites."""
    rows = [[each.suite, *_line(row)] for each, row in places() if row.method == method]
    if not rows:
        return "No run of this preset has been published yet."
    return table(["suite", *_HEAD], rows)


def measured(key: str, choice: str) -> Iterator[str]:
    """Suites and budgets with a published run whose gradient method or curriculum is ``choice``.

    Args:
        key: ``aggregator`` or ``curriculum``.
    """
    for each, row in places():
        params = row.first.method["params"]
        kinds = {str(value) for name, value in params.items() if _names(key, name)}
        if choice in kinds:
            yield f"{each.suite} {short(row.budget)}"


def _names(key: str, setting: str) -> bool:
    return setting.endswith(f"{key}.kind") and setting.startswith("agent.")


def _protocol(each: Table) -> str:
    protocol = each.protocol
    rule = {
        "any-step": "success at any step",
        "terminated-positive": "termination with positive reward",
    }
    return (
        f"{len(each.tasks)} task{'s' * (len(each.tasks) != 1)}, backend {code(protocol['backend'])}, reward "
        f"{code(protocol['reward_version'])}, horizon up to {protocol['horizon']}, "
        f"{protocol['episodes_per_task']} episodes a task, {rule[protocol['success']]}; goals: {protocol['goals']}."
    )


_HEAD = ("env steps", "success", "seed: its success", "hours", "raw files, in `results/`")


def _method(row: Row) -> str:
    """The row's label as on the leaderboard, with a link to the page of its method."""
    if row.method not in methods():
        return row.label
    return f"[{row.method}](/methods/{row.method}.md){row.label.removeprefix(row.method)}"


def _line(row: Row) -> list[str]:
    return [row.taken_text, success(row), each_seed(row), hours(row), folder(row)]
