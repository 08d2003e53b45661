"""Every number of the leaderboard, computed again from the raw files by plain Python that shares no code with it."""

from __future__ import annotations

import csv
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from mtrl.leaderboard.__main__ import main
from mtrl.settings import presets
from tests.helpers.records import make_record, write

PUBLISHED = Path(__file__).parents[3] / "results"
Record = dict[str, Any]
Key = tuple[str, str, str]  # table, planned env steps, label


def invented(folder: Path) -> Path:
    """What the published files lack: rows of five seeds, diverged and failed ones, other steps, sampling policies."""
    for seed in range(6):
        write(folder, make_record(seed=seed, rates=[0.1 * seed, 1.0, 0.3], evaluations=4))
        write(
            folder, make_record(method="mtsac-pcgrad", seed=seed, rates=[0.2, 0.9 - 0.1 * seed])
        )
    write(folder, make_record(seed=6, rates=[0.9] * 10, evaluations=5, status="diverged"))
    write(folder, make_record(seed=7, evaluations=1, status="diverged"))
    write(folder, make_record(seed=8, status="failed"))
    write(folder, make_record(seed=9, status="running"))
    more = make_record(method="mtsac-cagrad", env_steps=3_100_000)
    more["budget"]["segments"][0]["total_env_steps"] = 3_000_000
    write(folder, more)
    longer = make_record(method="toppo", env_steps=3_000_000)
    longer["budget"]["segments"].insert(0, {"env_steps": 0, "total_env_steps": 1_000})
    longer["budget"]["segments"][1]["env_steps"] = 1_000
    write(folder, longer)
    one = "mt1:reach-v3"
    for seed in range(2):
        write(folder, make_record(one, seed=seed, rates=[0.3]))
        write(folder, make_record(one, "mtppo", seed=seed, rates=[0.5], env_steps=2_000_000))
    # Better, but with fewer steps or with settings of their own: none of them is the reference.
    write(folder, make_record(one, rates=[0.8], env_steps=1_000_000))
    for seed in range(3):
        write(folder, make_record(one, seed=seed, rates=[0.9], agent__width=7))
    write(folder, make_record("mt1:push-v3", rates=[0.7], env_steps=1_000_000))
    for seed in range(2):
        grid = make_record("mg3", seed=seed)
        grid["protocol"]["deterministic"] = False
        grid["protocol"]["distinct_levels"]["LavaGapS7"] = 14
        write(folder, grid)
    return folder


@pytest.fixture(scope="module", params=["published", "invented"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    out = tmp_path_factory.mktemp(request.param)
    invent = request.param == "invented"
    return Built(invented(out / "in") if invent else PUBLISHED, out / "out")


class Built:
    """A leaderboard, and the raw files of each of its rows."""

    def __init__(self, results: Path, out: Path) -> None:
        assert main(["build", str(results), f"--out={out}"]) == 0
        self.out = out
        self.rows: dict[Key, list[Record]] = defaultdict(list)
        self.files: dict[Key, list[str]] = defaultdict(list)
        for line in self.csv("seeds"):
            record = json.loads((results / line["file"]).read_text())
            self.rows[key_of(line)].append(record)
            self.files[key_of(line)].append(line["file"])

    def csv(self, name: str) -> list[dict[str, str]]:
        with (self.out / "csv" / f"{name}.csv").open(encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def names(self) -> dict[tuple[str, str], Key]:
        """Rows by table and name in plots, which has the budget where that is not the table's largest."""
        largest = {
            table: max(int(k[1]) for k in self.rows if k[0] == table)
            for table, _, _ in self.rows
        }
        found = {}
        for table, planned, label in self.rows:
            budget = "" if int(planned) == largest[table] else f", {shortened(int(planned))}"
            found[table, label + budget] = (table, planned, label)
        return found


def key_of(line: dict[str, str]) -> Key:
    return line["table"], line["planned_env_steps"], line["method"]


def shortened(steps: int) -> str:
    return f"{steps / 1e6:g}M" if steps >= 1e6 else f"{steps / 1e3:g}k"


# The plain implementation.


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def variance(values: Sequence[float]) -> float:
    return sum((value - mean(values)) ** 2 for value in values) / (len(values) - 1)


def counted(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if record["status"] in ("finished", "diverged")]


def last(record: Record, count: str = "successes") -> list[float]:
    """Rates of the last evaluation."""
    if not record["evaluations"]:
        return [0.0] * len(record["protocol"]["tasks"])
    tasks = record["evaluations"][-1]["per_task"].values()
    return [task[count] / task["episodes"] for task in tasks]


def final(record: Record, count: str = "successes") -> list[float]:
    """Rates that count: none of a run that diverged."""
    return [0.0] * len(last(record)) if record["status"] == "diverged" else last(record, count)


def curve(record: Record, steps: float) -> float:
    """Mean success at some env steps, on straight lines between evaluations."""
    points = [(e["env_steps"], mean([t["successes"] / t["episodes"] for t in e["per_task"].values()]))
              for e in record["evaluations"]]  # fmt: skip
    if not points or (record["status"] == "diverged" and steps > points[-1][0]):
        return 0.0
    if steps <= points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in pairwise(points):
        if steps <= x1:
            return y0 + (y1 - y0) * (steps - x0) / (x1 - x0)
    return points[-1][1]


def clock(record: Record, steps: float) -> float:
    """Hours that a run took until some env steps, on straight lines between evaluations."""
    points = [(e["env_steps"], e["wall_s"] / 3600) for e in record["evaluations"]]
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= steps <= x1:
            return y0 + (y1 - y0) * (steps - x0) / (x1 - x0)
    return points[0][1] if steps <= points[0][0] else points[-1][1]


def steps_shown(records: Sequence[Record]) -> list[int]:
    """Env steps of a row's curve: of all evaluations that lie between the latest start and the earliest finish."""
    evaluated = [
        [e["env_steps"] for e in r["evaluations"]] for r in records if r["evaluations"]
    ]
    ends = [r["evaluations"][-1]["env_steps"] for r in records if r["status"] == "finished"]
    low, high = max(own[0] for own in evaluated), min(ends or [own[-1] for own in evaluated])
    return sorted({step for own in evaluated for step in own if low <= step <= high})


def rules(record: Record) -> str:
    """The protocol that a run on one task has in common with those on many."""
    own = ("suite", "tasks", "horizon", "goal_seed", "distinct_levels")
    return json.dumps([(k, v) for k, v in sorted(record["protocol"].items()) if k not in own])


def num_changed(record: Record) -> int:
    """Settings of the agent in which a run differs from its method's preset."""
    params = record["method"]["params"]
    usual = presets.resolve(
        {"suite": params["suite"], "method": record["method"]["name"]}
    ).flat()
    return sum(
        usual[key] != value
        for key, value in params.items()
        if key in usual and (key.startswith("agent.") or key == "stagger")
    )


def specialists(
    rows: dict[Key, list[Record]], table: str
) -> dict[str, dict[str, list[Record]]]:
    """The single-task reference of a table: for each method and task the records of one row."""
    first = next(records[0] for key, records in rows.items() if key[0] == table)
    tasks = first["protocol"]["tasks"]
    found: dict[str, dict[str, list[tuple[tuple[int, int, bool, int], list[Record]]]]] = {}
    for (_, planned, _), records in rows.items():
        one, segments = records[0], records[0]["budget"]["segments"]
        (task, *more) = one["protocol"]["tasks"]
        if more or len(tasks) == 1 or task not in tasks or rules(one) != rules(first):
            continue
        if not counted(records):
            continue
        straight = len(segments) == 1 and segments[0]["env_steps"] == 0
        order = (-int(planned), num_changed(one), not straight, -len(counted(records)))
        own = found.setdefault(one["method"]["name"], {})
        own.setdefault(task, []).append((order, records))
    return {
        method: {
            task: min(several, key=lambda pair: pair[0])[1] for task, several in own.items()
        }
        for method, own in found.items()
    }


def half_width(values: Sequence[float]) -> float:
    return float(stats.t.ppf(0.975, len(values) - 1)) * math.sqrt(
        variance(values) / len(values)
    )


def welch(first: Sequence[float], second: Sequence[float]) -> tuple[float, float] | None:
    """Half-width around the difference of two means; None where a side has one value."""
    if min(len(first), len(second)) < 2:
        return None
    a, b = variance(first) / len(first), variance(second) / len(second)
    if a + b == 0:
        return 0.0, 0.0
    freedom = (a + b) ** 2 / (a * a / (len(first) - 1) + b * b / (len(second) - 1))
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(a + b)
    return -half, half


def wilson(wins: int, episodes: int) -> tuple[float, float]:
    z, rate = 1.959963984540054, wins / episodes
    center = (rate + z * z / 2 / episodes) / (1 + z * z / episodes)
    half = z * math.sqrt(rate * (1 - rate) / episodes + z * z / 4 / episodes**2)
    half /= 1 + z * z / episodes
    return center - half, center + half


def interquartile_mean(matrix: Sequence[Sequence[float]]) -> float:
    values = sorted(value for row in matrix for value in row)
    cut = len(values) // 4
    return mean(values[cut : len(values) - cut])


def improvement(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> float:
    pairs = [(a[task], b[task]) for task in range(len(first[0])) for a in first for b in second]
    wins, ties = sum(a > b for a, b in pairs), sum(a == b for a, b in pairs)
    return (wins + ties / 2) / len(pairs)


def numbers_of(records: Sequence[Record]) -> dict[str, float | str]:
    """The columns of ``rows.csv`` that a row has by itself; empty text where it has none."""
    own = counted(records)
    finished = [record for record in records if record["status"] == "finished"]
    steps = [record["budget"]["env_steps"] for record in finished or records]
    segments = records[0]["budget"]["segments"]
    found: dict[str, float | str] = {
        "planned_env_steps": segments[-1]["total_env_steps"],
        "env_steps_least": min(steps),
        "env_steps_most": max(steps),
        "planned_once": str(len(segments) == 1 and segments[0]["env_steps"] == 0).lower(),
        "seeds": len(own),
        "preliminary": str(len(own) < 5).lower(),
        "num_parameters": records[0]["method"]["num_parameters"],
        "precision": records[0]["provenance"]["precision"] or "",
    }
    for status in ("diverged", "failed", "running"):
        found[status] = sum(record["status"] == status for record in records)
    if not own:
        return found | dict.fromkeys(
            ("success", "low", "high", "iqm", "best_over_training"), ""
        )
    matrix = [final(record) for record in own]
    means = [mean(row) for row in matrix]
    tasks = len(matrix[0])
    worst = math.ceil(tasks / 5)
    half = half_width(means) if len(means) >= 5 else None
    evaluated = [record for record in own if record["evaluations"]]
    return found | {
        "success": mean(means),
        "low": "" if half is None else max(mean(means) - half, 0.0),
        "high": "" if half is None else min(mean(means) + half, 1.0),
        "success_with_last_scores": mean([mean(last(record)) for record in own]),
        "iqm": interquartile_mean(matrix),
        "worst_k": worst,
        "worst_k_mean": mean([mean(sorted(row)[:worst]) for row in matrix]),
        "optimality_gap": mean([1 - value for row in matrix for value in row]),
        "best_over_training": sum(
            max(curve(record, e["env_steps"]) for e in record["evaluations"]) for record in evaluated
        )
        / len(own),
        "final_step_success": mean([mean(final(record, "final_step_successes")) for record in own]),
        "hours": mean([record["evaluations"][-1]["wall_s"] / 3600 for record in evaluated]),
    }  # fmt: skip


def same(shown: str, expected: float | str) -> bool:
    if isinstance(expected, str) or shown == "":
        return shown == expected
    return float(shown) == pytest.approx(expected, rel=1e-5, abs=1e-6)


# What the files say.


@pytest.mark.parametrize("built", ["published"], indirect=True)
def test_rows_are_the_folders_of_published_files(built: Built) -> None:
    for key, files in built.files.items():
        assert len({Path(file).parent for file in files}) == 1, key
    folders = {Path(file).parent for files in built.files.values() for file in files}
    assert len(folders) == len(built.files)


def test_rows(built: Built) -> None:
    lines = built.csv("rows")
    assert {key_of(line) for line in lines} == built.rows.keys()
    for line in lines:
        for name, expected in numbers_of(built.rows[key_of(line)]).items():
            assert same(line[name], expected), (key_of(line), name, line[name], expected)


def test_comparisons(built: Built) -> None:
    compared = [line for line in built.csv("rows") if line["baseline"]]
    assert compared
    for line in compared:
        key = key_of(line)
        own, other = built.rows[key], built.rows[key[0], key[1], line["baseline"]]
        first = [final(record) for record in counted(own)]
        second = [final(record) for record in counted(other)]
        difference = mean([mean(row) for row in first]) - mean([mean(row) for row in second])
        assert same(line["difference"], difference), key
        assert same(line["probability_of_improvement"], improvement(first, second)), key
        around = welch([mean(row) for row in first], [mean(row) for row in second])
        ends = ("", "") if around is None else tuple(difference + part for part in around)
        assert same(line["difference_low"], ends[0]) and same(line["difference_high"], ends[1])
        steps = [
            {r["budget"]["env_steps"] for r in records if r["status"] == "finished"}
            for records in (own, other)
        ]
        equal = all((min(each), max(each)) == (min(steps[0]), max(steps[0])) for each in steps)
        assert line["equal_env_steps"] == str(equal).lower(), key


def test_tasks(built: Built) -> None:
    names, seen = built.names(), 0
    for line in built.csv("tasks"):
        if line["reference"] == "true":
            continue
        records = counted(built.rows[names[line["table"], line["method"]]])
        task, protocol = line["task"], records[0]["protocol"]
        place = protocol["tasks"].index(task)
        episodes = protocol["episodes_per_task"] * len(records)
        wins = round(sum(final(r)[place] for r in records) * protocol["episodes_per_task"])
        levels = sum(record["protocol"]["distinct_levels"][task] for record in records)
        assert (int(line["successes"]), int(line["episodes"])) == (wins, episodes)
        assert int(line["different_levels"]) == levels
        assert same(line["success"], wins / episodes)
        independent = levels == episodes or not protocol["deterministic"]
        ends = wilson(wins, episodes) if independent else ("", "")
        assert same(line["wilson_low"], ends[0]) and same(line["wilson_high"], ends[1])
        seen += 1
    assert seen


def test_the_single_task_reference(built: Built) -> None:
    found = [line for line in built.csv("tasks") if line["reference"] == "true"]
    expected: dict[tuple[str, str, str], list[Record]] = {}
    for table in {key[0] for key in built.rows}:
        for method, rows in specialists(built.rows, table).items():
            planned = [r[0]["budget"]["segments"][-1]["total_env_steps"] for r in rows.values()]
            budgets = dict.fromkeys(shortened(value) for value in (min(planned), max(planned)))
            label = f"{method}, one task, {' to '.join(budgets)}"
            expected |= {(table, label, task): records for task, records in rows.items()}
    assert found
    assert {(line["table"], line["method"], line["task"]) for line in found} == expected.keys()
    for line in found:
        records = counted(expected[line["table"], line["method"], line["task"]])
        episodes = records[0]["protocol"]["episodes_per_task"] * len(records)
        wins = round(sum(final(record)[0] for record in records) * episodes / len(records))
        assert (int(line["successes"]), int(line["episodes"])) == (wins, episodes), line
        assert same(line["success"], wins / episodes), line


def test_curves_and_profiles(built: Built) -> None:
    names = built.names()
    shown: dict[Key, list[int]] = defaultdict(list)
    for line in built.csv("curves"):
        key = names[line["table"], line["method"]]
        records, steps = counted(built.rows[key]), int(line["env_steps"])
        shown[key].append(steps)
        values = [curve(record, steps) for record in records]
        assert same(line["success"], mean(values)), line
        assert same(line["half_width"], half_width(values) if len(values) >= 5 else ""), line
        whole = [r for r in records if r["status"] == "finished"]
        timed = whole or [r for r in records if r["evaluations"]]
        hours = mean([clock(record, steps) for record in timed]) if timed else 0.0
        assert same(line["hours"], hours), line
    for key, records in built.rows.items():
        if any(record["evaluations"] for record in counted(records)):
            assert shown[key] == steps_shown(counted(records)), key
    for line in built.csv("profiles"):
        records = counted(built.rows[names[line["table"], line["method"]]])
        scores = [score for record in records for score in final(record)]
        # Thresholds are whole episodes, written in six digits.
        episodes = records[0]["protocol"]["episodes_per_task"]
        threshold = round(float(line["threshold"]) * episodes)
        above = sum(round(score * episodes) > threshold for score in scores) / len(scores)
        assert same(line["share_above"], above), line


def test_seeds(built: Built) -> None:
    for line in built.csv("seeds"):
        (record,) = (r for r in built.rows[key_of(line)] if r["run_id"] == line["run_id"])
        assert line["counted"] == str(record["status"] in ("finished", "diverged")).lower()
        assert int(line["env_steps"]) == record["budget"]["env_steps"]
        assert int(line["gradient_steps"]) == record["budget"]["gradient_steps"]
        assert int(line["evaluations"]) == len(record["evaluations"])
        assert line["git_dirty"] == str(record["provenance"]["git_dirty"]).lower()
        if record["evaluations"]:
            assert same(line["success"], mean(last(record)))
            assert same(line["hours"], record["evaluations"][-1]["wall_s"] / 3600)


class Cells(HTMLParser):
    """The rows of the page's tables of scores: where each leads, and the values of its cells by their label."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[dict[str, str]] = []
        self._row: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "tr":
            self._row = {}
        elif tag == "td" and "data-value" in given:
            self._row[given.get("data-label", given["class"])] = given["data-value"]
        elif tag == "a" and "-row-" in given.get("href", "") and "method" in self._row:
            # The label leads there, and so does the link to the files.
            assert self._row.setdefault("place", given["href"]) == given["href"]
            if self._row not in self.rows[-1:]:
                self.rows.append(self._row)


def test_the_page_itself(built: Built) -> None:
    """The values that the page sorts by, unrounded, in the order of the rows of ``rows.csv``."""
    page = Cells((built.out / "index.html").read_text(encoding="utf-8"))
    lines = built.csv("rows")
    assert len(page.rows) == len(lines)
    for cells, line in zip(page.rows, lines):
        assert cells["place"].startswith(f"#{line['table']}-row-")
        expected = numbers_of(built.rows[key_of(line)])
        worst = f"worst {math.ceil(len(built.rows[key_of(line)][0]['protocol']['tasks']) / 5)}"
        shown = {"success": "success", "IQM": "iqm", worst: "worst_k_mean", "gap": "optimality_gap",
                 "seeds": "seeds", "env steps": "env_steps_most", "hours": "hours",
                 "parameters": "num_parameters"}  # fmt: skip
        for label, name in shown.items():
            value = expected.get(name, "")
            if value == "":
                assert cells[label] == "", (line["method"], label)
            else:
                assert float(cells[label]) == pytest.approx(value, rel=1e-12), (
                    line["method"],
                    label,
                )
        for label, name in (
            ("vs plain", "difference"),
            ("P(better)", "probability_of_improvement"),
        ):
            assert same(line[name], float(cells[label]) if cells[label] else "")


def test_the_markdown_rounds_the_same_numbers(built: Built) -> None:
    text = (built.out / "leaderboard.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    tables: list[list[str]] = []
    for line in rows:
        cells = [
            re.sub(r"\\(.)", r"\1", cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]
        ]
        if cells[:3] == ["method", "env steps", "success"]:
            head = cells
            tables.append([])
        elif (
            len(cells) == 13 and tables and not cells[0].startswith("--") and cells[0] != "run"
        ):
            tables[-1].append(dict(zip(head, cells)))  # type: ignore[arg-type]
    shown: list[dict[str, str]] = [row for table in tables for row in table]  # type: ignore[misc]
    lines = built.csv("rows")
    assert len(shown) == len(lines)
    rounded: list[tuple[str, str, Callable[[float], str]]] = [
        ("success", "success", lambda value: f"{value:.3f}"),
        ("vs plain", "difference", lambda value: f"{value:+.3f}"),
        ("IQM", "iqm", lambda value: f"{value:.3f}"),
        ("worst tasks", "worst_k_mean", lambda value: f"{value:.3f}"),
        ("gap", "optimality_gap", lambda value: f"{value:.3f}"),
        ("hours", "hours", lambda value: f"{value:.2f}"),
    ]
    for row, line in zip(shown, lines):
        assert row["method"] == line["method"]
        for column, name, text_of in rounded:
            if line[name]:
                begins = row[column].partition(" ")[0]
                assert float(begins) == pytest.approx(
                    float(text_of(float(line[name]))), abs=1.1e-3
                )
            else:
                assert row[column] in ("", "none", "none †")
