"""Real processes, really killed."""

from __future__ import annotations

import json
import os
import pty
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtrl import train
from mtrl.training.checkpoint import newest_first
from tests.helpers.runs import final_record, final_state
from tests.helpers.terminal import read_all
from tests.helpers.workbench import METHOD

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = [
    "--total-env-steps=1500",
    "--checkpoint-every=180",
    "--log-every=60",
    "--eval.every=240",
    "--device=cpu",
]
SETTINGS += [
    "--eval.episodes-per-task=4",
    "--eval.envs-per-task=2",
    "--tensorboard=false",
    f"--method={METHOD}",
]


def arguments(run: Path, suite: str, *more: str) -> list[str]:
    return [suite, f"--run-dir={run}", *SETTINGS, *more]


def command_of(run: Path, suite: str, *more: str) -> list[str]:
    """The command of a training with the fakes."""
    program = [sys.executable, "-m", "tests.helpers.workbench", "train"]
    return [*program, *arguments(run, suite, *more)]


def environment(pace: float) -> dict[str, str]:
    return {**os.environ, "FAKE_PACE": str(pace), "OMP_NUM_THREADS": "1"}


def start(run: Path, suite: str, pace: float) -> subprocess.Popen[str]:
    """A training process of its own, slowed down to ``pace`` seconds per vector step."""
    return subprocess.Popen(
        command_of(run, suite),
        cwd=ROOT,
        env=environment(pace),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for_checkpoint_beyond(run: Path, steps: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        newest = newest_first(run / "checkpoints")
        if newest and int(newest[0].name) > steps:
            return
        time.sleep(0.005)
    raise AssertionError(f"no new checkpoint; {process.communicate()}")


@pytest.mark.parametrize(
    "suite", ["mt10:fake", pytest.param("mt10:fake-inexact", marks=pytest.mark.slow)]
)
def test_sigkill_at_random_moments(
    faked: None, tmp_path: Path, suite: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert train.main(arguments(whole, suite)) == 0
    moments = random.Random(suite)
    steps = 0
    for _ in range(2):
        process = start(killed, suite, pace=0.002)
        wait_for_checkpoint_beyond(killed, steps, process)
        time.sleep(moments.uniform(0, 0.25))
        process.kill()
        _, err = process.communicate()
        assert process.returncode == -signal.SIGKILL, err
        steps = int(newest_first(killed / "checkpoints")[0].name)
    capsys.readouterr()
    assert train.main(arguments(killed, suite)) == 0
    assert f"from {steps:,} env steps" in capsys.readouterr().out
    assert final_state(killed) == final_state(whole)
    assert final_record(killed) == final_record(whole)


def test_sigterm_and_the_command_it_names(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(run, "mt10:fake-inexact", pace=0.002)
    wait_for_checkpoint_beyond(run, 0, process)
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143
    last = err.strip().splitlines()[-1]
    assert last.startswith("mtrl.train: stopped at ")
    assert last.endswith(f"python -m mtrl.train --resume {run}")
    assert "Traceback" not in err + out


def test_a_terminal_that_closes_saves_like_sigterm(faked: None, tmp_path: Path) -> None:
    run = tmp_path / "run"
    # A child inherits that its parent ignores SIGHUP, as under nohup.
    own = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        process = start(run, "mt10:fake", pace=0.002)
    finally:
        signal.signal(signal.SIGHUP, own)
    wait_for_checkpoint_beyond(run, 0, process)
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 129
    steps = int(newest_first(run / "checkpoints")[0].name)
    words = (
        f"mtrl.train: stopped at {steps:,} env steps; continue from {steps:,} env steps with: "
    )
    assert err.strip().splitlines()[-1].startswith(words)
    assert train.main(arguments(run, "mt10:fake")) == 0


def test_nohup_is_heeded(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(
        ["nohup", *command_of(run, "mt10:fake", "--total-env-steps=600")],
        cwd=ROOT,
        env=environment(0.002),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    while not newest_first(run / "checkpoints") and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads((run / "result.json").read_text())["status"] == "finished"


@pytest.mark.parametrize(
    "redirection",
    [">&-", "<&- >&- 2>&-", "2>&1 >/dev/null | head -n 1", "| head -n 0"],
)
def test_a_closed_stream_ends_neither_the_run_nor_its_checkpoints(
    tmp_path: Path, redirection: str
) -> None:
    run = tmp_path / "run"
    words = shlex.join(command_of(run, "mt10:fake", "--total-env-steps=600"))
    script = f"{words} {redirection}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT,
        env=environment(0.001),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done
    assert "Traceback" not in done.stdout + done.stderr
    assert "Exception ignored" not in done.stdout + done.stderr
    assert json.loads((run / "result.json").read_text())["status"] == "finished"
    assert int(newest_first(run / "checkpoints")[0].name) == 600


def test_bad_input_is_an_exit_status_where_nobody_listens(tmp_path: Path) -> None:
    words = shlex.join([sys.executable, "-m", "mtrl.train", "no-such-suite"])
    assert subprocess.run(["bash", "-c", f"{words} >&- 2>&-"], cwd=ROOT).returncode == 2


def test_second_interrupt_stops_at_once(faked: None, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(run, "mt10:fake", pace=0.002)
    wait_for_checkpoint_beyond(run, 0, process)
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    time.sleep(0.0005)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert train.main(arguments(run, "mt10:fake")) == 0


@pytest.mark.slow
def test_bar_of_a_real_run(tmp_path: Path) -> None:
    outer, inner = pty.openpty()
    command = command_of(tmp_path / "run", "mt10:fake", "--total-env-steps=900")
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(0.003), stderr=inner, stdout=inner
    )
    os.close(inner)
    text = read_all(outer)
    assert process.wait(timeout=60) == 0
    for words in (
        "env steps/s",
        "ETA",
        "success 0.50",
        "eval ",
        "evaluating",
        "finished: success",
    ):
        assert words in text
