from __future__ import annotations

from pathlib import Path

import pytest

from mtrl.errors import ConfigError
from mtrl.leaderboard.__main__ import main
from mtrl.leaderboard.files import MAX_BYTES, printable
from mtrl.leaderboard.runs import load
from tests.helpers.hostile import write_broken
from tests.helpers.records import make_record, write


def test_a_run_keeps_its_counts(tmp_path: Path) -> None:
    write(tmp_path / "in", make_record(rates=[1.0, 0.0], evaluations=2, env_steps=1000))
    (run,), omitted = load(tmp_path / "in", tmp_path / "out")
    assert omitted == []
    assert run.env_steps.tolist() == [500, 1000]
    assert run.hours.tolist() == [0.5, 1.0]
    assert run.successes[1].tolist() == [50, 0] + [25] * 8
    assert run.rates[1].mean() == pytest.approx(0.5)
    assert (run.planned_steps, run.counted) == (1000, True)
    assert run.link == "../in/mt10_mtsac_s0_1000.json"


def test_links_are_escaped_urls(tmp_path: Path) -> None:
    write(tmp_path / "in", make_record(), 'a b"<#?%.json')
    (run,), _ = load(tmp_path / "in", tmp_path / "out")
    assert run.link == "../in/a%20b%22%3C%23%3F%25.json"


def test_every_broken_file_is_named_with_its_reason(tmp_path: Path) -> None:
    reasons = write_broken(tmp_path / "results")
    runs, omitted = load(tmp_path / "results", tmp_path / "out")
    assert [run.file for run in runs] == ["first.json"]
    assert all(omission.fault for omission in omitted)
    found = {omission.file: omission.reason for omission in omitted}
    assert found.keys() == {printable(name) for name in reasons}
    for name, reason in reasons.items():
        assert reason in found[printable(name)], name
        assert str(tmp_path) not in found[printable(name)]


def test_files_of_other_kinds_are_told_apart_by_name(tmp_path: Path) -> None:
    write(tmp_path, make_record())
    (tmp_path / "benchmark_envs.json").write_text("{}")
    runs, (omitted,) = load(tmp_path, tmp_path / "out")
    assert len(runs) == 1
    assert (omitted.file, omitted.fault) == ("benchmark_envs.json", False)


def test_run_folders_may_lie_below_and_a_built_page_too(tmp_path: Path) -> None:
    write(tmp_path / "mt10" / "seed-0", make_record(), "result.json")
    for skipped in (
        "mt10/seed-0/checkpoints/1",
        "mt10/seed-0/tensorboard",
        ".hidden",
        "out/rliable",
    ):
        (tmp_path / skipped).mkdir(parents=True)
        (tmp_path / skipped / "other.json").write_text("{}")
    runs, omitted = load(tmp_path, tmp_path / "out")
    assert ([run.file for run in runs], omitted) == (["mt10/seed-0/result.json"], [])


def test_linked_folders_are_not_entered(tmp_path: Path) -> None:
    write(tmp_path / "in", make_record())
    write(tmp_path / "elsewhere", make_record(seed=1))
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "self").symlink_to(tmp_path / "in")
    assert len(load(tmp_path / "in", tmp_path / "out")[0]) == 1


def test_of_two_copies_of_a_run_the_longer_counts(tmp_path: Path) -> None:
    short, long = make_record(env_steps=2000, status="running"), make_record(env_steps=2000)
    write(tmp_path, short, "a.json")
    write(tmp_path, long, "b.json")
    (run,), (omitted,) = load(tmp_path, tmp_path / "out")
    assert run.file == "b.json"
    assert (omitted.file, omitted.reason) == ("a.json", "duplicate: has the run_id of b.json")


def test_budgets_of_one_configuration_are_runs_of_their_own(tmp_path: Path) -> None:
    """Schedules follow the budget."""
    short, long = make_record(env_steps=1000), make_record(env_steps=2000)
    long["run_id"] = short["run_id"]
    write(tmp_path, short, "a.json")
    write(tmp_path, long, "b.json")
    runs, omitted = load(tmp_path, tmp_path / "out")
    assert ([run.planned_steps for run in runs], omitted) == ([1000, 2000], [])
    assert main(["check", str(tmp_path)]) == 0


def test_one_seed_of_equal_settings_counts_once(tmp_path: Path) -> None:
    first, again = make_record(), make_record()
    again["run_id"] = "another"
    again["method"]["params"]["log_every"] = 7
    write(tmp_path, first, "a.json")
    write(tmp_path, again, "b.json")
    (run,), (omitted,) = load(tmp_path, tmp_path / "out")
    assert (run.file, omitted.file) == ("a.json", "b.json")
    assert omitted.reason == "duplicate: has the method, settings and seed of a.json"


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a folder"):
        load(tmp_path / "none", tmp_path / "out")


def test_the_largest_real_record_fits() -> None:
    """mt50 to 100M env steps with an evaluation every 200k, as the writer indents it."""
    evaluation = 50 * 190
    assert 500 * evaluation < MAX_BYTES
