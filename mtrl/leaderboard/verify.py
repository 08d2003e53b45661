"""``python -m mtrl.leaderboard verify ROW``: evaluate a row's final checkpoints again and say whether it holds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mtrl import cli
from mtrl.envs.errors import nearest
from mtrl.errors import CheckpointError, ConfigError, ResultError
from mtrl.evaluate import evaluation_config, find, load_agent
from mtrl.evaluation.evaluator import make_evaluator
from mtrl.leaderboard.row import Row
from mtrl.leaderboard.runs import load, run_of
from mtrl.leaderboard.tables import tables
from mtrl.records.record import TaskResult
from mtrl.records.results import Record, read_result, success_mean
from mtrl.records.rows import budget_name
from mtrl.settings.config import Flat, shortened
from mtrl.settings.presets import read_yaml
from mtrl.statistics import t_interval, wilson_interval
from mtrl.training.checkpoint import Checkpoint

_DEPTH = 4
"""Parts of a result file's path below the results: SUITE/BUDGET/ROW/seed-N.json."""
_OPTIONS = {"results": str, "runs": str, "seed": int, "device": str}


@dataclasses.dataclass(frozen=True)
class Claim:
    """One run of the row: what its record says of the final policy, and the checkpoint that can show it."""

    record: Record
    checkpoint: Checkpoint

    @property
    def per_task(self) -> dict[str, Record]:
        final: dict[str, Record] = self.record["evaluations"][-1]["per_task"]
        return final

    @property
    def row(self) -> tuple[str, str]:
        """Suite and method."""
        return self.record["protocol"]["suite"], self.record["method"]["name"]

    @property
    def identity(self) -> tuple[str, str, int]:
        """Equal for runs of one row of the leaderboard."""
        run = run_of(self.record, "", "")
        return run.protocol_key, run.method_key, run.planned_steps


def run(arguments: list[str]) -> int:
    """Run the command; the status is 1 if the row does not hold."""
    words, given = cli.parse(arguments, _OPTIONS)
    if not words:
        raise ConfigError("ROW: none given; name SUITE/LABEL, run folders or result files")
    results, runs = Path(given.get("results", "results")), Path(given.get("runs", "runs"))
    claims = [claim(path, runs) for word in words for path in _paths(word, results)]
    rows = {entry.row for entry in claims}
    if len(rows) > 1:
        raise ConfigError(
            f"ROW: {' and '.join(map('/'.join, sorted(rows)[:2]))} are different rows; verify one at a time"
        )
    if len({entry.identity for entry in claims}) > 1:
        raise ConfigError(
            "ROW: the runs differ in their evaluation, settings, precision or planned total, so they are different "
            "rows; verify one at a time"
        )
    changes: dict[str, Any] = {key: given[key] for key in ("seed", "device") if key in given}
    again = [_evaluate(entry, changes) for entry in claims]
    text, holds = verdict(claims, again)
    print(text)
    return 0 if holds else 1


def claim(path: Path, runs: Path) -> Claim:
    """The run behind a run folder or a result file.

    Raises:
        ConfigError, ResultError, CheckpointError: its record or its checkpoint is not there or does not fit.
    """
    record = read_result(path / "result.json" if path.is_dir() else path)
    if record["status"] != "finished":
        raise ResultError(f"{path}: is {record['status']}, so it has no final result to verify")
    folder = path if path.is_dir() else run_folder(path, record, runs)
    saved = find(folder)
    at = record["evaluations"][-1]["env_steps"]
    if saved.progress != at:
        raise CheckpointError(
            f"{folder}: its newest checkpoint is at {saved.progress:,} env steps, "
            f"the result's final evaluation at {at:,}"
        )
    return Claim(record, saved)


def run_folder(path: Path, record: Record, runs: Path) -> Path:
    """The run folder of a result file: its own folder, its place in a sweep, or the default place under ``runs``.

    Raises:
        CheckpointError: none of them holds that run.
    """
    suite, method = record["protocol"]["suite"].replace(":", "-"), record["method"]["name"]
    places = [
        path.parent,
        *_place_in_sweep(path),
        runs / suite / method / f"seed-{record['seed']}",
    ]
    for place in places:
        if (place / "config.yaml").is_file() and _is_of(
            read_yaml(place / "config.yaml"), record
        ):
            return place
    looked = ", ".join(map(str, places))
    raise CheckpointError(
        f"{path}: the checkpoints of {record['run_id']} are not in {looked}; name the run folder itself"
    )


def _place_in_sweep(path: Path) -> list[Path]:
    """Where the sweep that wrote a result file kept the run's folder."""
    if len(path.absolute().parents) <= _DEPTH:
        return []
    results = path.absolute().parents[_DEPTH - 1]
    return [results / ".runs" / path.absolute().relative_to(results).with_suffix("")]


def verdict(
    claims: Sequence[Claim], again: Sequence[dict[str, TaskResult]]
) -> tuple[str, bool]:
    """Describe the published and the repeated evaluations, and say whether the new mean lies in the row's interval.

    The interval is the t-interval over the published per-seed means, widened to the Wilson interval of the pooled
    episodes where that is wider: few seeds that happen to agree do not make the evaluation itself exact. A level that
    is played again adds nothing to it.
    """
    lines, published, found = [], [], []
    for entry, result in zip(claims, again, strict=True):
        before, now = success_mean(entry.per_task), _mean(result)
        published.append(before)
        found.append(now)
        equal = {
            name: dataclasses.asdict(task) for name, task in result.items()
        } == entry.per_task
        how = "equal in every count" if equal else _largest_change(entry.per_task, result)
        lines.append(
            f"seed {entry.record['seed']}: published {before:.3f}, found {now:.3f} ({how})"
        )
    low, high = interval(claims, published)
    mean = math.fsum(found) / len(found)
    holds = low <= mean <= high
    suite, method = claims[0].row
    lines.append(
        f"{suite}/{method} {'holds' if holds else 'does NOT hold'}: found {mean:.3f} over {len(found)} "
        f"seed{'s' * (len(found) != 1)}, published {math.fsum(published) / len(published):.3f} "
        f"with 95% interval {low:.3f} to {high:.3f}"
    )
    return "\n".join(lines), holds


def interval(claims: Sequence[Claim], means: Sequence[float]) -> tuple[float, float]:
    """The row's interval, see ``verdict``."""
    tasks = [task for entry in claims for task in entry.per_task.values()]
    rate = sum(task["successes"] for task in tasks) / sum(task["episodes"] for task in tasks)
    trials = sum(map(_independent_episodes, claims))
    low, high = wilson_interval(round(rate * trials), trials)
    if len(means) > 1:
        _, seeds_low, seeds_high = t_interval(means)
        low, high = min(low, seeds_low), max(high, seeds_high)
    return max(low, 0.0), min(high, 1.0)


def _independent_episodes(entry: Claim) -> int:
    """Episodes of a run's final evaluation, each different level or goal once where the policy is deterministic."""
    protocol = entry.record["protocol"]
    levels = protocol["distinct_levels"]
    if levels is None or not protocol["deterministic"]:
        return sum(int(task["episodes"]) for task in entry.per_task.values())
    return sum(int(count) for count in levels.values())


def _paths(word: str, results: Path) -> Iterator[Path]:
    """The files or folders that a word of the command line names.

    Raises:
        ConfigError: it names no row, or several.
    """
    if Path(word).exists():
        yield from sorted(Path(word).glob("seed-*.json")) or [Path(word)]
        return
    if (results / word).is_dir() and (found := sorted((results / word).glob("seed-*.json"))):
        yield from found
        return
    rows = _rows(results)
    if not rows:
        raise ConfigError(f"ROW: {results} holds no result files")
    # The whole name first, since a label may be the beginning of others.
    named = [row for row, names in rows.items() if word in names] or [
        row for row in rows if word in _of_method(row)
    ]
    if not named:
        raise _unknown(word, rows)
    if len(named) > 1:
        shown = "; ".join(rows[row][-1] for row in named)
        raise ConfigError(f"ROW: {word} has {len(named)} rows; name one of {shown}")
    (row,) = named
    for run in row.with_status("finished") or row.runs:
        yield results / run.file


def _of_method(row: Row) -> tuple[str, str]:
    """The names of a row where it is its method's only one: among all budgets, and among its own budget."""
    suite = row.first.protocol["suite"]
    return f"{suite}/{row.method}", f"{suite}/{budget_name(row.budget)}/{row.method}"


def _unknown(word: str, rows: dict[Row, list[str]]) -> ConfigError:
    """The error for a name that no row has: the nearest one, and the rows of its suite."""
    suite = word.partition("/")[0]
    own = {row: names for row, names in rows.items() if row.first.protocol["suite"] == suite}
    shown = own or rows
    methods = [f"{row.first.protocol['suite']}/{row.method}" for row in shown]
    close = nearest(word, [*methods, *(name for names in shown.values() for name in names)])
    hint = f"did you mean {close!r}? " if close else ""
    return ConfigError(
        f"ROW: {word!r} is unknown; {hint}the rows are {'; '.join(names[-1] for names in shown.values())}"
    )


def _rows(results: Path) -> dict[Row, list[str]]:
    """The rows of the leaderboard of ``results``, each with its names, the one that no other row has last."""
    found, _ = load(results, results / "leaderboard")  # `check` names the files that are none
    names = {}
    for table in tables(found):
        for row in table.rows:
            whole = f"{table.suite}/{budget_name(row.budget)}/{row.label}"
            alone = sum(other.label == row.label for other in table.rows) == 1
            names[row] = [*([f"{table.suite}/{row.label}"] if alone else []), whole]
    return names


def _evaluate(entry: Claim, changes: dict[str, Any]) -> dict[str, TaskResult]:
    config = evaluation_config(entry.checkpoint, changes)
    evaluator = make_evaluator(config)
    try:
        return evaluator.evaluate(load_agent(config, entry.checkpoint, evaluator))
    finally:
        evaluator.close()


def _is_of(config: Flat, record: Record) -> bool:
    saved, params = shortened(config), shortened(record["method"]["params"])
    return all(
        saved.get(key) == value for key, value in params.items() if key != "total_env_steps"
    )


def _mean(result: dict[str, TaskResult]) -> float:
    return math.fsum(task.success_rate for task in result.values()) / len(result)


def _largest_change(before: dict[str, Record], now: dict[str, TaskResult]) -> str:
    name = max(before, key=lambda task: abs(before[task]["successes"] - now[task].successes))
    was = before[name]
    return f"most changed: {name}, {was['successes']}/{was['episodes']} to {now[name].successes}/{now[name].episodes}"
