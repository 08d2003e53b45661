"""Published result files in today's form and place: nothing of a record but its settings changes, and none is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mtrl.errors import ResultError
from mtrl.leaderboard.runs import load
from mtrl.leaderboard.tables import tables
from mtrl.settings.config import PLACE_KEYS, make_config
from scripts.convert_results import GONE, canonical, converted, main, plan

OLD = Path(__file__).parent / "old_results"
PLACES = {
    "camrl-ppo-no-loss-rank_seed-1.json":
        "camrl-minigrid/315k/camrl-ppo-no-loss-rank-rollout-per-task-1000-minibatches-4-without-advantage-floor"
        "/seed-1.json",
    "mtppo-paced_seed-1_3m.json":
        "mt10/3m/mtppo-paced-noise-correlation-0.4-without-noise-until-without-noise-by-failure/seed-1.json",
    "mtsac_reach-v3_seed-1_80k.json": "mt1-reach-v3/80k/mtsac-without-stagger-without-max-reward/seed-1.json",
    "mtsac_seed-1_500k.json": "mt10/500k/mtsac-without-stagger/seed-1.json",
    "toppo_seed-1_1m.json": "mt10/1m/toppo/seed-1.json",
}  # fmt: skip


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Result files as they were published."""
    return Path(shutil.copytree(OLD, tmp_path / "results" / "old").parent)


def read(path: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*.json"))
    }


def test_every_record_moves_and_keeps_all_but_the_form_of_its_settings(results: Path) -> None:
    assert main([str(results)]) == 0
    assert sorted(contents(results)) == sorted(PLACES.values())
    assert not (results / "old").exists()
    for name, place in PLACES.items():
        old, new = read(OLD / name), read(results / place)
        before, after = old["method"], new["method"]
        for key in ("run_id", "status", "seed", "evaluations"):
            assert new[key] == old[key]
        for key in ("protocol", "budget", "provenance"):
            kept = old[key].keys() & new[key].keys() - {"eval_seed"}
            assert {name: new[key][name] for name in kept} == {
                name: old[key][name] for name in kept
            }
        assert (before["name"], before["agent"], before["architecture"], before["num_parameters"]) == (
            after["name"], after["agent"], after["heads"], after["num_parameters"])  # fmt: skip
        params = canonical(before["params"])
        kept = {key: value for key, value in params.items() if key not in (*GONE, "eval.seed")}
        assert kept.items() <= after["params"].items()


def test_what_the_new_schema_adds(results: Path) -> None:
    main([str(results)])
    record = read(results / PLACES["camrl-ppo-no-loss-rank_seed-1.json"])
    protocol, provenance = record["protocol"], record["provenance"]
    assert (protocol["goal_seed"], protocol["eval_seed"]) == (1, None)
    assert list(protocol["distinct_levels"]) == protocol["tasks"]
    # The numbers of the audit, by an independent count.
    known = {"DistShift1": 1, "Empty-16x16": 1, "LavaCrossingS9N3": 45, "MemoryS17Random": 48}
    assert known.items() <= protocol["distinct_levels"].items()
    assert record["budget"]["segments"] == [{"env_steps": 0, "total_env_steps": 315_000}]
    assert provenance["commands"] == [
        read(OLD / "camrl-ppo-no-loss-rank_seed-1.json")["provenance"]["command"]
    ]
    assert provenance["precision"] is None
    assert (record["method"]["network"], record["method"]["heads"]) == ("mlp", "separate")
    metaworld = read(results / PLACES["mtsac_reach-v3_seed-1_80k.json"])["protocol"]
    assert metaworld["distinct_levels"] == {"reach-v3": 50}


def test_a_resumed_run_does_not_tell_where_its_total_was_set(results: Path) -> None:
    path = results / "old" / "toppo_seed-1_1m.json"
    record = read(path)
    record["provenance"]["command"] = (
        "python -m mtrl.train --resume runs/x --total-env-steps=1_000_000"
    )
    path.write_text(json.dumps(record))
    main([str(results)])
    budget = read(results / PLACES["toppo_seed-1_1m.json"])["budget"]
    assert budget["segments"] == [{"env_steps": None, "total_env_steps": 1_000_000}]


def test_settings_are_complete_and_written_out(results: Path) -> None:
    main([str(results)])
    for path in results.rglob("*.json"):
        params = read(path)["method"]["params"]
        flat = make_config(params).flat()
        assert list(params) == [key for key in flat if key not in PLACE_KEYS]
        assert params == {key: flat[key] for key in params}


def test_settings_made_later_have_the_value_that_does_what_the_run_did(results: Path) -> None:
    main([str(results)])
    mtsac = read(results / PLACES["mtsac_seed-1_500k.json"])["method"]
    assert (mtsac["aggregator"], mtsac["curriculum"]) == ("mean", "uniform")
    params = mtsac["params"]
    assert (
        params["stagger"],
        params["agent.max_reward"],
        params["agent.aggregator.every"],
    ) == (
        False,
        None,
        1,
    )
    toppo = read(results / PLACES["toppo_seed-1_1m.json"])["method"]["params"]
    assert "agent.decay_start" not in toppo
    assert (toppo["agent.noise_until"], toppo["agent.advantage_floor"]) == (None, 0.0)
    assert (
        toppo["agent.actor_aggregator.kind"],
        toppo["agent.actor_aggregator.reduction"],
    ) == (
        "pcgrad",
        "mean",
    )


@pytest.mark.parametrize(
    ("written", "reduction"),
    [
        ("pcgrad", "sum"),
        ("pcgrad:every=2", "sum"),
        ("gradvac", "sum"),
        ("pcgrad:reduction=mean", "mean"),
    ],
)
def test_projections_were_summed_unless_a_run_said_otherwise(
    written: str, reduction: str
) -> None:
    record = read(OLD / "toppo_seed-1_1m.json")
    record["method"]["params"]["agent.actor_aggregator"] = written
    params = converted(record)["method"]["params"]
    assert params["agent.actor_aggregator.reduction"] == reduction
    for owner in ("aggregator", "actor_aggregator", "critic_aggregator"):
        assert params[f"agent.{owner}.weighting"] == "none"
        assert params[f"agent.{owner}.sparse"] == 0


def test_again_changes_nothing(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(results), "--check"]) == 1
    assert capsys.readouterr().out.endswith("5 result files, 5 to change\n")
    assert main([str(results)]) == 0
    before = contents(results)
    assert main([str(results)]) == main([str(results), "--check"]) == 0
    assert contents(results) == before


def test_a_conversion_that_was_stopped_goes_on(results: Path) -> None:
    name, place = next(iter(PLACES.items()))
    old = (results / "old" / name).read_text()
    main([str(results)])
    whole = contents(results)
    (results / "old").mkdir()
    # Written in its new place, not yet removed from the old one.
    (results / "old" / name).write_text(old)
    assert main([str(results)]) == 0
    assert contents(results) == whole and place in whole


def test_nothing_is_overwritten(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = read(OLD / "toppo_seed-1_1m.json")
    other["run_id"] = "another"
    (results / "old" / "other.json").write_text(json.dumps(other))
    before = contents(results)
    assert main([str(results)]) == 2
    assert "is also that of another record" in capsys.readouterr().err
    assert contents(results) == before


def test_a_file_that_makes_room_is_not_lost(results: Path) -> None:
    """One record stands where another belongs, and has a place of its own."""
    main([str(results)])
    whole = contents(results)
    first, second = (
        results / PLACES["toppo_seed-1_1m.json"],
        results / PLACES["mtsac_seed-1_500k.json"],
    )
    aside = first.with_name("aside.json")
    first.rename(aside)
    second.rename(first)
    assert main([str(results)]) == 0
    assert contents(results) == whole
    first.rename(aside)
    second.rename(first)
    aside.rename(second)
    assert main([str(results)]) == 2  # each waits for the other
    assert sorted(contents(results).values()) == sorted(whole.values())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"agent.decay_start": 0.7},
            "agent.decay_start: a setting that is gone, and did something",
        ),
        ({"agent.gamma": None}, "agent.gamma: is missing, and what the run did is not known"),
        ({"agent.unheard_of": 3}, "agent.unheard_of: unknown setting"),
    ],
)
def test_what_cannot_be_converted_is_one_sentence(
    results: Path, changes: dict[str, Any], words: str
) -> None:
    path = results / "old" / "toppo_seed-1_1m.json"
    record = read(path)
    params = record["method"]["params"] | changes
    record["method"]["params"] = {
        key: value for key, value in params.items() if value is not None
    }
    path.write_text(json.dumps(record))
    with pytest.raises(ResultError, match=words) as caught:
        plan(results)
    assert str(path) in str(caught.value)


def test_rows_stay_the_same(results: Path, tmp_path: Path) -> None:
    """Suite, budget, method, success of each seed: as the files of version 1 have them, read without our code."""
    before = []
    for path in OLD.glob("*.json"):
        record = read(path)
        tasks = record["evaluations"][-1]["per_task"].values()
        mean = sum(task["successes"] / task["episodes"] for task in tasks) / len(tasks)
        total = record["method"]["params"]["total_env_steps"]
        row = (record["protocol"]["suite"], total, record["method"]["name"])
        before.append((*row, [pytest.approx(mean)], [record["run_id"]]))
    main([str(results)])
    runs, omitted = load(results, tmp_path / "out")
    assert not omitted
    after = [(table.suite, row.budget, row.method, row.seed_means, [run.run_id for run in row.runs])
             for table in tables(runs) for row in table.rows]  # fmt: skip
    assert sorted(after, key=lambda row: row[-1]) == sorted(before, key=lambda row: row[-1])


def test_a_converted_record_is_its_own_conversion() -> None:
    for path in OLD.glob("*.json"):
        once = converted(read(path))
        assert converted(once) == once
