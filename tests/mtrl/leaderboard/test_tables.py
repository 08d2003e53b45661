from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtrl.leaderboard.heatmap import columns
from mtrl.leaderboard.labels import short
from mtrl.leaderboard.runs import load
from mtrl.leaderboard.tables import Table, slug, tables
from mtrl.statistics import t_interval, welch_interval, wilson_interval
from tests.helpers.records import make_record, write


def grouped(folder: Path, *records: dict[str, Any]) -> list[Table]:
    for index, record in enumerate(records):
        write(folder / "in", record, f"{index}.json")
    runs, omitted = load(folder / "in", folder / "out")
    assert omitted == []
    return tables(runs)


def seeds(method: str, rates: list[float], **keywords: Any) -> list[dict[str, Any]]:
    return [
        make_record(method=method, seed=seed, rates=[rate] * 10, **keywords)
        for seed, rate in enumerate(rates)
    ]


def test_the_headline_is_the_t_interval_over_seed_means(tmp_path: Path) -> None:
    (table,) = grouped(tmp_path, *seeds("mtsac", [0.2, 0.4, 0.5, 0.6, 0.8]))
    (row,) = table.rows
    assert row.seed_means == pytest.approx([0.2, 0.4, 0.5, 0.6, 0.8])
    expected = t_interval(row.seed_means)
    assert (row.headline.value, row.headline.low, row.headline.high) == pytest.approx(expected)
    assert not row.preliminary
    assert row.task_counts == [(125, 250)] * 10


def test_below_five_seeds_there_is_no_interval(tmp_path: Path) -> None:
    (table,) = grouped(tmp_path, *seeds("mtsac", [0.2, 0.4, 0.6, 0.8]))
    assert table.rows[0].preliminary
    assert not table.rows[0].headline.has_interval


def test_protocols_are_never_mixed(tmp_path: Path) -> None:
    records = [make_record(seed=seed) for seed in range(6)]
    for record, (key, value) in zip(records, [("backend", "stock"), ("eval_seed", 1), ("episodes_per_task", 50),
                                              ("deterministic", False), ("goals", "others")]):  # fmt: skip
        record["protocol"][key] = value
    found = grouped(tmp_path, *records)
    assert len(found) == 5
    assert len({table.slug for table in found}) == 5


def test_budgets_and_settings_make_rows(tmp_path: Path) -> None:
    (table,) = grouped(
        tmp_path,
        make_record(env_steps=1000, rates=[1.0] * 10),
        make_record(env_steps=2000),
        make_record(env_steps=2000, agent__width=1024),
        make_record(env_steps=2000, seed=1, num_threads=4),
    )
    assert [(row.budget, row.label, len(row.runs)) for row in table.rows] == [
        (2000, "mtsac", 2),
        (2000, "mtsac, width 1024", 1),
        (1000, "mtsac", 1),
    ]
    assert table.name(table.rows[2]) == "mtsac, 1k"


def labels(table: Table) -> list[str]:
    return sorted(row.label for row in table.rows)


def test_a_label_says_what_differs_from_the_preset_and_from_other_rows(tmp_path: Path) -> None:
    common = {
        "agent__gamma": 0.9,
        "agent__aggregator__kind": "cagrad",
        "agent__aggregator__c": 0.5,
    }
    (table,) = grouped(
        tmp_path,
        make_record(**common, agent__precision="fp32"),
        make_record(**common, stagger=False, agent__actor_aggregator=None),
        make_record(**common | {"agent__aggregator__c": 0.9}, stagger=True),
    )
    assert labels(table) == [
        "mtsac, aggregator cagrad, fp32",
        "mtsac, aggregator cagrad, without stagger",
        "mtsac, aggregator cagrad:c=0.9",
    ]


def test_the_only_row_of_a_method_says_what_no_other_row_of_the_budget_has(
    tmp_path: Path,
) -> None:
    (table,) = grouped(tmp_path / "alone", make_record(stagger=False, agent__gamma=0.9))
    assert labels(table) == ["mtsac, without stagger, gamma 0.9"]
    (table,) = grouped(
        tmp_path / "together",
        make_record(stagger=False, agent__gamma=0.9),
        make_record(method="mtsac-wide", stagger=False),
        make_record(env_steps=1, agent__gamma=0.9),
    )
    assert labels(table) == ["mtsac, gamma 0.9", "mtsac, gamma 0.9", "mtsac-wide, width 400"]


def test_settings_that_only_some_rows_know(tmp_path: Path) -> None:
    later = {"agent__about": 1, "agent__beyond": 2, "agent__curve": 3, "agent__dim": 4}
    (table,) = grouped(tmp_path, make_record(agent__width=1024, **later), make_record())
    assert labels(table) == [
        "mtsac",
        "mtsac, width 1024, about 1, beyond 2, curve 3, and 1 more",
    ]


def test_rows_of_agents_and_methods_that_do_not_ship(tmp_path: Path) -> None:
    records = [make_record(method="own", agent__width=width) for width in (1, 2)]
    records += [make_record(method="mtsac-own", agent__width=width) for width in (1, 400)]
    (table,) = grouped(tmp_path, *records)
    assert labels(table) == ["mtsac-own", "mtsac-own, width 1", "own, width 1", "own, width 2"]


def test_rows_that_words_do_not_tell_apart_are_numbered(tmp_path: Path) -> None:
    other = make_record(seed=1)
    other["method"]["heads"] = "one-hot"
    (table,) = grouped(tmp_path, make_record(), other)
    assert labels(table) == ["mtsac", "mtsac #2"]


def test_settings_that_do_nothing_on_a_suite_make_no_row(tmp_path: Path) -> None:
    noises = [
        {"agent__noise_correlation": 0.0},
        {"agent__noise_correlation": 0.4, "agent__noise_until": None},
    ]
    for suite, rows in (("mg3", 1), ("mt10", 2)):
        records = [
            make_record(suite, "mtppo", seed, **noise) for seed, noise in enumerate(noises)
        ]
        (table,) = grouped(tmp_path / suite, *records)
        assert len(table.rows) == rows


def test_diverged_runs_count_as_zero_and_failed_ones_are_kept_in_sight(tmp_path: Path) -> None:
    broken = [make_record(seed=seed, status=status, rates=[1.0] * 10)
              for seed, status in ((5, "diverged"), (6, "failed"), (7, "running"))]  # fmt: skip
    never = make_record(seed=8, status="diverged", evaluations=1)
    (table,) = grouped(tmp_path, *seeds("mtsac", [0.5] * 4), *broken, never)
    (row,) = table.rows
    assert [run.status for run in row.runs] == ["finished"] * 4 + [
        "diverged",
        "failed",
        "running",
        "diverged",
    ]
    assert row.seeds == 6
    assert row.seed_means == pytest.approx([0.5] * 4 + [0.0, 0.0])
    assert row.headline.value == pytest.approx(2 / 6)
    # What one had at two thirds of the way.
    assert row.last_scores == pytest.approx((2 + 0.66) / 6)
    assert row.task_counts == [(100, 300)] * 10
    assert row.flawed
    assert row.remarks == [
        "diverged, so counted as 0: seeds 5, 8; with their last evaluations instead the mean is 0.443",
        "failed, so not counted: seed 6",
        "not finished when the file was written, so not counted: seed 7",
    ]
    assert row.tags == ["2 diverged", "1 failed", "1 not finished"]


def test_a_row_of_failures_has_no_numbers(tmp_path: Path) -> None:
    (table,) = grouped(tmp_path, make_record(status="failed"), make_record(method="mtppo"))
    assert [row.label for row in table.rows] == ["mtppo", "mtsac"]
    assert math.isnan(table.rows[1].headline.value)
    assert table.rows[1].summaries == {}
    assert table.comparisons == {}


def test_the_plain_baseline_is_that_of_the_agent_at_the_same_budget(tmp_path: Path) -> None:
    plain, pcgrad, mtppo = [0.4, 0.5, 0.6], [0.5, 0.6, 0.7], [0.8, 0.9]
    (table,) = grouped(
        tmp_path,
        *seeds("mtsac", plain),
        *seeds("mtsac-pcgrad", pcgrad),
        *seeds("mtppo", mtppo),
        *seeds("mtppo-x", mtppo),
        *seeds("mtsac-short", plain, env_steps=1000),
    )
    found = {row.label: comparison for row, comparison in table.comparisons.items()}
    assert {label: comparison.baseline.label for label, comparison in found.items()} == {
        "mtsac-pcgrad": "mtsac", "mtppo": "mtsac", "mtppo-x": "mtppo"}  # fmt: skip
    difference = found["mtsac-pcgrad"].difference
    assert (difference.value, difference.low, difference.high) == pytest.approx(
        welch_interval(pcgrad, plain)
    )
    assert found["mtppo"].improvement == 1.0
    assert found["mtppo"].preliminary


def test_of_plain_rows_the_one_with_most_settings_in_common_is_the_baseline(
    tmp_path: Path,
) -> None:
    (table,) = grouped(
        tmp_path,
        *seeds("mtsac", [0.7, 0.8, 0.9], agent__precision="fp32"),
        *seeds("mtsac", [0.4, 0.5], agent__precision="auto"),
        *seeds("mtsac-pcgrad", [0.5, 0.6, 0.7], agent__precision="auto"),
    )
    (comparison,) = table.comparisons.values()
    assert comparison.baseline.label == "mtsac, bf16"


def test_single_task_runs_are_a_reference_under_the_same_rules(tmp_path: Path) -> None:
    other = make_record(suite="mt1:push-v3", rates=[0.1])
    other["protocol"]["backend"] = "stock"
    found = grouped(
        tmp_path,
        make_record(),
        make_record(suite="mt1:reach-v3", rates=[0.9], env_steps=100),
        other,
    )
    assert [table.suite for table in found] == ["mt10", "mt1:push-v3", "mt1:reach-v3"]
    own, reference = columns(found[0], found)
    assert not own.reference
    assert reference.label == "mtsac, one task, 100"
    assert reference.counts == [(45, 50), *[None] * 9]
    assert reference.mean is None


def test_summaries(tmp_path: Path) -> None:
    rates = [1.0] * 8 + [0.0] * 2
    (table,) = grouped(tmp_path, *(make_record(seed=seed, rates=rates) for seed in range(5)))
    summary = table.rows[0].summaries
    assert (summary["iqm"], summary["worst"], summary["best"], summary["hours"]) == (
        1.0,
        0.0,
        0.8,
        1.0,
    )
    assert summary["gap"] == pytest.approx(0.2)
    assert summary["final_step"] == pytest.approx(0.4)


def test_short_and_slug() -> None:
    assert [short(value) for value in (80, 999_900, 373_690, 1_046_664, 3_000_000, 2e10)] == [
        "80", "1M", "374k", "1.05M", "3M", "20B"]  # fmt: skip
    assert slug("../<b>MT10:x") == "b-mt10-x"
    assert slug("../") == "table"


def test_a_table_does_not_depend_on_the_order_of_its_files(tmp_path: Path) -> None:
    records = [*seeds("mtsac", [0.2, 0.3]), *seeds("mtppo", [0.2, 0.3]), *seeds("toppo", [0.9])]
    first = grouped(tmp_path / "a", *records)[0]
    second = grouped(tmp_path / "b", *reversed(records))[0]
    assert (
        [row.label for row in first.rows]
        == [row.label for row in second.rows]
        == ["toppo, algorithm toppo", "mtppo", "mtsac"]
    )
    assert all(np.array_equal(a.scores, b.scores) for a, b in zip(first.rows, second.rows))


def lengthened(record: dict[str, Any], *segments: tuple[int | None, int]) -> dict[str, Any]:
    record["budget"]["segments"] = [
        {"env_steps": at, "total_env_steps": total} for at, total in segments
    ]
    return record


def test_a_lengthened_run_is_a_row_of_its_own_and_says_so(tmp_path: Path) -> None:
    """Run id, settings and last total are those of a straight run."""
    straight = make_record(env_steps=16_000)
    records = [
        straight,
        make_record(env_steps=16_000, seed=1),
        lengthened(make_record(env_steps=16_000), (0, 8_000), (8_000, 16_000)),
        lengthened(make_record(env_steps=16_000, seed=2), (0, 20_000), (8_000, 16_000)),
        lengthened(make_record(env_steps=16_000, seed=3), (None, 16_000)),
    ]
    assert records[2]["run_id"] == straight["run_id"]
    (table,) = grouped(tmp_path, *records)
    rows = {row.label: row for row in table.rows}
    assert {label: len(row.runs) for label, row in rows.items()} == {
        "mtsac": 2,
        "mtsac, lengthened at 8k": 1,
        "mtsac, planned anew at 8k": 1,
        "mtsac, perhaps lengthened": 1,
    }
    assert {row.flawed for row in table.rows} == {True, False}
    assert rows["mtsac"].remarks == []
    assert rows["mtsac, lengthened at 8k"].remarks == [
        "planned for 8,000 env steps, then for 16,000 at 8,000: schedules that follow the planned total jump there, so "
        "this is no run that was planned for 16k"
    ]
    assert "does not say at which step" in rows["mtsac, perhaps lengthened"].remarks[0]


def test_env_steps_are_those_taken_and_unequal_comparisons_are_marked(tmp_path: Path) -> None:
    more = make_record(method="mtsac-pcgrad", env_steps=4_100)
    more["budget"]["segments"][0]["total_env_steps"] = 4_000
    even = make_record(method="mtsac-cagrad", env_steps=4_000)
    (table,) = grouped(tmp_path, make_record(env_steps=4_000), more, even)
    found = {row.label: row for row in table.rows}
    assert {row.budget for row in table.rows} == {4_000}
    assert (found["mtsac-pcgrad"].taken_text, found["mtsac"].taken_text) == ("4,100", "4,000")
    assert table.comparisons[found["mtsac-pcgrad"]].steps == ("4,100", "4,000")
    assert table.comparisons[found["mtsac-cagrad"]].steps is None


def test_what_auto_precision_came_to_makes_rows(tmp_path: Path) -> None:
    records = [make_record(seed=seed, agent__precision="auto") for seed in range(3)]
    records[2]["provenance"]["precision"] = "fp32"
    said = make_record(seed=3, agent__precision="fp32")
    (table,) = grouped(tmp_path, *records, said)
    assert {row.label: [run.seed for run in row.runs] for row in table.rows} == {
        "mtsac, bf16": [0, 1],
        "mtsac, fp32": [2, 3],
    }


def test_goal_seeds_of_runs_share_a_table_and_evaluation_seeds_do_not(tmp_path: Path) -> None:
    records = [make_record(seed=seed) for seed in range(3)]
    records[1]["protocol"] |= {"goal_seed": 9, "distinct_levels": None}
    records[2]["protocol"]["eval_seed"] = 7
    found = grouped(tmp_path, *records)
    assert sorted(len(table.rows[0].runs) for table in found) == [1, 2]


def test_there_is_no_interval_where_levels_repeat(tmp_path: Path) -> None:
    records = [make_record("mg3", seed=seed) for seed in range(2)]
    for record in records:
        record["protocol"]["distinct_levels"] |= {"LavaGapS7": 14}
    (table,) = grouped(tmp_path, *records)
    (column,) = columns(table, [table])
    assert table.tasks[0] == "LavaGapS7"
    assert column.levels == [28, 100, 100]
    assert column.interval(0) is None
    assert column.interval(1) == wilson_interval(50, 100)
    sampling = [make_record("mg3", seed=seed) for seed in range(2)]
    for record in sampling:
        record["protocol"] |= {"deterministic": False}
        record["protocol"]["distinct_levels"] |= {"LavaGapS7": 14}
    (table,) = grouped(tmp_path / "sampling", *sampling)
    (column,) = columns(table, [table])
    assert column.interval(0) == wilson_interval(50, 100)


def test_the_single_task_reference_is_chosen_without_its_score(tmp_path: Path) -> None:
    """The preset's own settings stand before others, however these score."""
    one = "mt1:reach-v3"
    found = grouped(
        tmp_path,
        make_record(),
        make_record(suite=one, rates=[0.1]),
        *[make_record(suite=one, rates=[0.9], seed=seed, agent__width=7) for seed in range(3)],
        make_record(suite=one, rates=[0.8], env_steps=100),
    )
    _, reference = columns(found[0], found)
    assert reference.label == "mtsac, one task, 3M"
    assert reference.counts[0] == (5, 50)
