"""Whole sweeps as processes, really killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtrl.checkpoint import newest_first
from mtrl.leaderboard.__main__ import main
from mtrl.results import read_result
from mtrl.sweeps.local import LocalExecutor
from mtrl.sweeps.spec import read_spec
from mtrl.sweeps.state import State, collect, state_of
from mtrl.trainer import train
from tests.helpers.workbench import METHOD
from tests.mtrl.sweeps.conftest import MakeSpec, results_of, start


def children(pid: int) -> list[int]:
    """Process ids of the direct children."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for_checkpoint(results: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until the runs of a sweep hold ``count`` checkpoints or more env steps than before."""
    deadline = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < deadline:
        newest = [newest_first(run / "checkpoints") for run in results.glob(".runs/*/*/seed-*") if run.is_dir()]
        if sum(int(paths[0].name) for paths in newest if paths) >= count:
            return
        time.sleep(0.01)
    raise AssertionError(f"no checkpoint; {process.communicate()}")


def test_killed_twice_and_restarted_gives_the_same_files(faked: None, make_spec: MakeSpec, tmp_path: Path) -> None:
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

    sweep = start(str(killed), "--jobs=1", pace=0.01)  # then one of its runs, which it tries once more, then itself
    wait_for_checkpoint(results, 360, sweep)
    assert not Path(f"/proc/{orphan}").exists() or "Z" in Path(f"/proc/{orphan}/stat").read_text().split()[2]
    os.kill(children(sweep.pid)[0], signal.SIGKILL)
    wait_for_checkpoint(results, 720, sweep)
    sweep.kill()
    _, err = sweep.communicate()
    assert "ended early (killed by signal 9" in err
    assert len(list(results.glob("*/*.json"))) <= 1

    last = start(str(killed), "--jobs=2")
    out, err = last.communicate(timeout=120)
    assert last.returncode == 0, err
    assert "2 of 2 runs finished" in err and str(results) in out
    assert results_of(results) == results_of(tmp_path / "results-whole")
    assert len(results_of(results)) == 2

    before = {path: path.stat().st_mtime_ns for path in results.glob("*/*.json")}
    assert main(["run", str(killed)]) == 0  # nothing is left to do
    assert before == {path: path.stat().st_mtime_ns for path in results.glob("*/*.json")}


def test_ctrl_c_saves_stops_and_says_how_to_continue(make_spec: MakeSpec, tmp_path: Path) -> None:
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
    log = (tmp_path / "results-sweep" / ".runs" / "mt10-fake" / "fake" / "seed-0.log").read_text()
    assert "mtrl.train: stopped at" in log


def test_failures_are_tried_once_more_and_reported(make_spec: MakeSpec, tmp_path: Path) -> None:
    """A run that diverges is recorded and not tried again; one that cannot start is reported."""
    spec = make_spec(suites=["mt10:fake"], seeds=[0, 1], total_env_steps=300, methods={METHOD: {"agent.nan_at": 150}})
    foreign = tmp_path / "results-sweep" / ".runs" / "mt10-fake" / "fake" / "seed-1"
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
    monkeypatch.setattr("mtrl.sweeps.local.TRAIN", (sys.executable, "-c", "raise SystemExit('no luck')"))
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
    longer = read_spec(make_spec(**changed | {"total_env_steps": 180}))
    assert state_of(longer.units[0]) == State("begun", 90)
    assert main(["run", str(make_spec(**changed, methods={METHOD: {"agent.heads": "one-hot"}}))]) == 2
    assert "is of another run: agent.heads is 'multi-head' there and 'one-hot' here" in capsys.readouterr().err


def test_the_plan_says_where_its_speeds_come_from(
    faked: None, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
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
    assert lines[1].endswith("(calibrated)")
    assert lines[2] == "mt10:fake fake seed 1: starts, 900 env steps left, 0.00 h at 100/s (measured)"
    assert lines[4].startswith("4 runs, 1 over; about 0.0 hours of work, 0.0 h with 2 jobs")
    assert not spec.units[2].folder.exists()


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
def test_bad_command_lines(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_jobs_share_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtrl.sweeps.local.available_cpus", lambda: 8)
    assert [LocalExecutor(jobs)._threads for jobs in (1, 3, 8, 20)] == [8, 2, 1, 1]
