"""Whole sweeps as processes, really killed."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtrl.agents.ppo.settings import MTPPOConfig
from mtrl.leaderboard.__main__ import main
from mtrl.records.results import read_result
from mtrl.settings.presets import resolve
from mtrl.sweeps import estimate
from mtrl.sweeps.local import LocalExecutor
from mtrl.sweeps.spec import read_spec
from mtrl.sweeps.state import State, collect, in_use, state_of
from mtrl.trainer import train
from mtrl.training.checkpoint import newest_first
from tests.helpers.fakes import FakeAgent
from tests.helpers.workbench import METHOD
from tests.mtrl.sweeps.conftest import ROW, SETTINGS, MakeSpec, results_of, start


def children(pid: int) -> list[int]:
    """Process ids of the direct children."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for_checkpoint(results: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until the runs of a sweep hold ``count`` checkpoints or more env steps than before."""
    deadline = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < deadline:
        newest = [
            newest_first(run / "checkpoints")
            for run in results.glob(".runs/*/*/*/seed-*")
            if run.is_dir()
        ]
        if sum(int(paths[0].name) for paths in newest if paths) >= count:
            return
        time.sleep(0.01)
    raise AssertionError(f"no checkpoint; {process.communicate()}")


def test_killed_twice_and_restarted_gives_the_same_files(
    faked: None, make_spec: MakeSpec, tmp_path: Path
) -> None:
    whole, killed = make_spec("whole"), make_spec("killed")
    for unit in read_spec(whole).units:
        train(unit.config)
        assert collect(unit).status == "finished"
    results = tmp_path / "results-killed"

    sweep = start(str(killed), "--jobs=1", pace=0.01)  # first the sweep itself dies
    wait_for_checkpoint(results, 90, sweep)
    (orphan,) = children(sweep.pid)
    sweep.kill()
    sweep.communicate()

    # Then one of its runs, which it tries once more, then itself.
    sweep = start(str(killed), "--jobs=1", pace=0.01)
    wait_for_checkpoint(results, 360, sweep)
    assert (
        not Path(f"/proc/{orphan}").exists()
        or "Z" in Path(f"/proc/{orphan}/stat").read_text().split()[2]
    )
    os.kill(children(sweep.pid)[0], signal.SIGKILL)
    wait_for_checkpoint(results, 720, sweep)
    sweep.kill()
    _, err = sweep.communicate()
    assert "ended early (killed by signal 9" in err
    assert len(list(results.glob("*/*/*/seed-*.json"))) <= 1

    last = start(str(killed), "--jobs=2")
    out, err = last.communicate(timeout=120)
    assert last.returncode == 0, err
    assert "2 of 2 runs finished" in err and str(results) in out
    assert results_of(results) == results_of(tmp_path / "results-whole")
    assert len(results_of(results)) == 2

    before = {path: path.stat().st_mtime_ns for path in results.glob("*/*/*/seed-*.json")}
    assert main(["run", str(killed)]) == 0  # nothing is left to do
    assert before == {
        path: path.stat().st_mtime_ns for path in results.glob("*/*/*/seed-*.json")
    }


def test_ctrl_c_saves_stops_and_says_how_to_continue(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    spec = make_spec(suites=["mt10:fake"], total_env_steps=90_000)
    sweep = start(str(spec), pace=0.01)
    wait_for_checkpoint(tmp_path / "results-sweep", 90, sweep)
    (child,) = children(sweep.pid)
    sweep.send_signal(signal.SIGINT)
    _, err = sweep.communicate(timeout=60)
    assert sweep.returncode == 130
    assert err.strip().splitlines()[-1] == (
        f"mtrl.leaderboard: stopped with 0 of 1 runs over; continue with: python -m mtrl.leaderboard run {spec}"
    )
    assert "Traceback" not in err
    assert not Path(f"/proc/{child}").exists()
    log = (
        tmp_path / "results-sweep" / ".runs" / "mt10-fake" / "90k" / ROW / "seed-0.log"
    ).read_text()
    assert "mtrl.train: stopped at" in log


def test_failures_are_tried_once_more_and_reported(make_spec: MakeSpec, tmp_path: Path) -> None:
    """A run that diverges is recorded and not tried again; one that cannot start is reported."""
    spec = make_spec(
        suites=["mt10:fake"],
        seeds=[0, 1],
        total_env_steps=300,
        methods={METHOD: {"agent.nan_at": 150}},
    )
    foreign = (
        tmp_path
        / "results-sweep"
        / ".runs"
        / "mt10-fake"
        / "300"
        / f"{ROW}-nan-at-150"
        / "seed-1"
    )
    foreign.mkdir(parents=True)
    (foreign / "notes.txt").write_text("mine")
    sweep = start(str(spec), "--jobs=2")
    _, err = sweep.communicate(timeout=120)
    assert sweep.returncode == 1
    assert "mt10:fake fake seed 0: diverged at 150 env steps" in err
    assert "is not empty and holds no run" in err and "0 of 2 runs finished" in err
    assert "once more" not in err  # neither would end otherwise the second time
    records = results_of(tmp_path / "results-sweep")
    assert [record["status"] for record in records.values()] == ["diverged"]
    assert (foreign / "notes.txt").read_text() == "mine"


def test_a_run_that_crashes_is_tried_once_more(
    faked: None,
    make_spec: MakeSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        "mtrl.sweeps.local.TRAIN", (sys.executable, "-c", "raise SystemExit('no luck')")
    )
    spec = make_spec(suites=["mt10:fake"])
    assert main(["run", str(spec)]) == 1
    err = capsys.readouterr().err
    assert err.count("ended early (exit status 1: no luck); going on with it once more") == 1
    assert err.count("failed at 0 env steps") == 2  # when it happened and at the end


def test_another_configuration_is_refused(
    faked: None, make_spec: MakeSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = {"suites": ["mt10:fake"], "total_env_steps": 90}
    unit = read_spec(make_spec(**changed)).units[0]
    train(unit.config)
    assert collect(unit).status == state_of(unit).status == "finished"
    for other in (
        {"total_env_steps": 180},
        {"methods": {METHOD: {"agent.heads": "one-hot"}}},
    ):
        # Rows of their own.
        assert state_of(read_spec(make_spec(**changed | other)).units[0]) == State("new")
    assert main(["run", str(make_spec(**changed, settings=SETTINGS | {"log_every": 45}))]) == 2
    assert (
        "is of another run: log_every is 60 there and 45 here; choose another"
        in capsys.readouterr().err
    )


def test_the_plan_says_where_its_speeds_come_from(
    faked: None,
    make_spec: MakeSpec,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("mtrl.sweeps.estimate.CALIBRATION_S", 0.05)
    path = make_spec(seeds=2)
    spec = read_spec(path)
    train(spec.units[0].config)
    collect(spec.units[0])
    record = read_result(spec.units[0].result)
    record["evaluations"][-1]["wall_s"] = 9.0
    spec.units[0].result.write_text(json.dumps(record))
    capsys.readouterr()
    assert main(["run", str(path), "--dry-run", "--jobs=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("mt10:fake fake seed 0: finished at 900 env steps, success ")
    assert lines[1].startswith("mt1:fake-inexact fake seed 0: starts, 300 env steps left")
    assert re.search(r"\(calibrated on [1-9][0-9,]* env steps\)$", lines[1])
    assert (
        lines[2]
        == "mt10:fake fake seed 1: starts, 900 env steps left, 0.00 h at 100/s (measured)"
    )
    assert lines[4].startswith("4 runs, 1 over; about 0.0 hours of work, 0.0 h with 2 jobs")
    assert not spec.units[2].folder.exists()


def test_the_plan_shows_which_seeds_share_a_process(
    faked: None,
    make_spec: MakeSpec,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Rates measured in a shared process are those of the process: each run has its part of the seconds."""
    monkeypatch.setattr("mtrl.sweeps.estimate.CALIBRATION_S", 0.05)
    path = make_spec(seeds=3, together=2, suites=["mt10:fake"], total_env_steps=900)
    spec = read_spec(path)
    train(spec.units[0].config, "python -m mtrl.train mt10:fake --seeds 0,1")
    collect(spec.units[0])
    record = read_result(spec.units[0].result)
    record["evaluations"][-1]["wall_s"] = 9.0
    spec.units[0].result.write_text(json.dumps(record))
    capsys.readouterr()
    assert main(["run", str(path), "--dry-run", "--jobs=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mt10:fake fake seeds 0,1, in one process:"
    assert lines[1].startswith("  mt10:fake fake seed 0: finished at 900 env steps, success ")
    assert (
        lines[2]
        == "  mt10:fake fake seed 1: starts, 900 env steps left, 0.00 h at 100/s (measured)"
    )
    assert (
        lines[3]
        == "mt10:fake fake seed 2: starts, 900 env steps left, 0.00 h at 100/s (measured)"
    )


@pytest.mark.parametrize(("limit", "pieces"), [(4.0, 5), (0.5, 1)])
def test_a_calibration_ends_in_time(
    faked: None, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, limit: float, pieces: int
) -> None:
    """Pieces of a second here: the first warms up, and alone counts where it takes longer than there is time."""
    now = [0.0]
    advance = FakeAgent.advance

    def slow(self: FakeAgent) -> None:
        advance(self)
        now[0] += 1.0

    monkeypatch.setattr(FakeAgent, "advance", slow)
    monkeypatch.setattr(estimate.time, "monotonic", lambda: now[0])
    config = read_spec(make_spec(suites=["mt10:fake"])).units[0].config
    speed = estimate.Calibrations().run(config, limit)
    assert now[0] == max(1.0, limit)
    per_piece = 3 * config.envs_per_task
    counted = pieces - 2 if pieces > 1 else 1
    assert speed == (per_piece, f"calibrated on {per_piece * counted} env steps")


def test_all_calibrations_share_one_limit(
    faked: None, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    methods, limits = [], []
    for index in range(20):
        (tmp_path / f"fake-{index}.yaml").write_text("# Fake.\nalgorithm: fake\n")
        methods.append(f"fake-{index}.yaml")

    def run(self: estimate.Calibrations, config: object, limit_s: float) -> estimate.Speed:
        limits.append(limit_s)
        return estimate.Speed(1.0, "calibrated")

    monkeypatch.setattr(estimate.Calibrations, "run", run)
    estimate.plan(read_spec(make_spec(methods=methods, suites=["mt10:fake"], seeds=2)), 1)
    assert limits == [estimate.ALL_S / 20] * 20


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("mtsac", {"learning_starts": 1}),
        ("mtppo", {"rollout_per_task": 200, "minibatches": 1}),
        ("sb3-sac", {"learning_starts": 0}),
        ("sb3-ppo", {"n_steps": 128}),
    ],
)
def test_agents_are_calibrated_in_short_pieces_of_what_they_do(
    method: str, changes: dict[str, int]
) -> None:
    settings = resolve({"suite": "mt10", "method": method}).agent
    assert settings.brief(8) == dataclasses.replace(settings, **changes)


def test_short_rollouts_hold_whole_sequences_of_every_environment() -> None:
    short = resolve({"suite": "mg3", "method": "mtppo", "agent.memory": "gru"}).agent.brief(8)
    assert isinstance(short, MTPPOConfig)
    assert short.rollout_per_task % (8 * short.sequence) == 0 and short.minibatches == 1


def test_seeds_together_killed_and_restarted_give_the_files_of_single_runs(
    faked: None, make_spec: MakeSpec, tmp_path: Path
) -> None:
    changes = {"suites": ["mt10:fake"], "seeds": [4, 0, 2], "total_env_steps": 900}
    alone, shared = make_spec("alone", **changes), make_spec("shared", **changes, together=True)
    for unit in read_spec(alone).units:
        train(unit.config)
        collect(unit)
    results = tmp_path / "results-shared"

    sweep = start(str(shared), "--jobs=2", pace=0.005)
    wait_for_checkpoint(results, 270, sweep)
    (child,) = children(sweep.pid)  # one process for all seeds
    os.kill(child, signal.SIGKILL)
    wait_for_checkpoint(results, 540, sweep)
    sweep.kill()
    _, err = sweep.communicate()
    assert "seeds 4,0,2: starts; its output goes to" in err
    assert "mt10:fake fake seeds 4,0,2: ended early (killed by signal 9" in err

    first = read_spec(shared).units[1]
    while in_use(first):  # what was started for a killed sweep saves and stops
        time.sleep(0.05)
    train(first.config)
    collect(first)
    before_restart = first.result.stat().st_mtime_ns

    last = start(str(shared))
    _, err = last.communicate(timeout=120)
    assert last.returncode == 0, err
    assert "seeds 4,2: continues from" in err  # the finished one is left out
    assert "3 of 3 runs finished" in err
    assert first.result.stat().st_mtime_ns == before_restart
    assert results_of(results) == results_of(tmp_path / "results-alone")
    assert len(results_of(results)) == 3


def test_a_seed_that_cannot_run_leaves_its_group_alone(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    spec = make_spec(suites=["mt10:fake"], seeds=3, total_env_steps=300, together=True)
    foreign = tmp_path / "results-sweep" / ".runs" / "mt10-fake" / "300" / ROW / "seed-1"
    foreign.mkdir(parents=True)
    (foreign / "notes.txt").write_text("mine")
    sweep = start(str(spec), "--jobs=2")
    _, err = sweep.communicate(timeout=120)
    assert sweep.returncode == 1
    assert (
        "seeds 0,1,2: ended early (exit status 2" in err
        and "going on with each seed alone" in err
    )
    assert "2 of 3 runs finished" in err and "mt10:fake fake seed 1: failed" in err
    assert len(results_of(tmp_path / "results-sweep")) == 2


def test_a_seed_that_diverges_leaves_its_group_alone(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    spec = make_spec(
        suites=["mt10:fake"],
        seeds=2,
        total_env_steps=300,
        methods={METHOD: {"agent.nan_at": 150}},
        together=2,
    )
    sweep = start(str(spec))
    _, err = sweep.communicate(timeout=120)
    assert sweep.returncode == 1
    assert "once more" not in err and "alone" not in err
    records = results_of(tmp_path / "results-sweep")
    assert [record["status"] for record in records.values()] == ["diverged"] * 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--jobs=0", "x"], "jobs: 0 is too small; it must be at least 1"),
        (["--job=1", "x"], "job: unknown setting; did you mean jobs?"),
        (["--jobs=two", "x"], "jobs: 'two' is not a whole number"),
        (["--cpus=2", "x"], "cpus: is of use only with --ray"),
        (["a", "b"], "SPEC: 2 given; name one YAML file"),
    ],
)
def test_bad_command_lines(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_jobs_share_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtrl.sweeps.local.available_cpus", lambda: 8)
    assert [LocalExecutor(jobs)._threads for jobs in (1, 3, 8, 20)] == [8, 2, 1, 1]
