"""Several processes search in one folder, and one of them dies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtrl.commands import tune
from mtrl.records.results import read_result
from mtrl.training.checkpoint import newest_first
from mtrl.tuning.search import search
from mtrl.tuning.spec import read_tune_spec
from mtrl.tuning.study import JOURNAL
from tests.helpers.runs import final_record
from tests.mtrl.test_commands import complaint
from tests.mtrl.tuning.test_tune import SPEC

pytest.importorskip("optuna")
TRIALS = 4


@pytest.fixture
def file(faked: None, tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(SPEC.replace("trials: 2", f"trials: {TRIALS}"))
    return path


def start(file: Path, folder: Path, pace: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.helpers.workbench", "commands.tune", str(file)]
    return subprocess.Popen(
        [*command, f"--folder={folder}"],
        env={**os.environ, "FAKE_PACE": str(pace)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for_checkpoint(folder: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if newest_first(folder / "seed-1" / "checkpoints"):
            return
        time.sleep(0.005)
    raise AssertionError(f"no checkpoint; {process.communicate()}")


def records(folder: Path) -> dict[str, object]:
    """The result of every run below ``folder``, without clocks and commands."""
    runs = [path.parent for path in folder.glob("trial-*/seed-*/result.json")]
    return {str(run.relative_to(folder)): final_record(run) for run in runs}


def test_two_workers_share_a_search_and_one_survives_the_other(
    file: Path, tmp_path: Path
) -> None:
    alone = search(read_tune_spec(file), tmp_path / "alone", say=lambda line: None)
    folder = tmp_path / "shared"
    first = start(file, folder, pace=0.1)  # still at its first trial when it is killed
    wait_for_checkpoint(folder / "trial-0", first)
    second = start(file, folder, pace=0.01)
    wait_for_checkpoint(folder / "trial-1", second)
    first.kill()
    out, err = first.communicate(timeout=60)
    assert first.returncode == -signal.SIGKILL, err
    assert "trial" not in out

    out, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    told = [int(number) for number in re.findall(r"^trial (\d+): complete", out, re.MULTILINE)]
    assert sorted(told) == list(range(TRIALS))  # each was brought to its end once
    record = read_result(folder / "trial-0" / "seed-1" / "result.json")
    assert len(record["provenance"]["commands"]) == 2

    shared = search(read_tune_spec(file), folder, say=lambda line: None)
    assert [trial.state.name for trial in shared.trials] == ["COMPLETE"] * TRIALS
    # Until TPE has ten trials it draws at random, by the number of the trial alone.
    assert [trial.params for trial in shared.trials] == [trial.params for trial in alone.trials]
    assert len({json.dumps(trial.params) for trial in shared.trials}) == TRIALS
    assert [trial.value for trial in shared.trials] == [trial.value for trial in alone.trials]
    assert records(folder) == records(tmp_path / "alone")


def test_values_of_an_earlier_trial_are_not_trained_again(file: Path, tmp_path: Path) -> None:
    head, _, _ = file.read_text().partition("space:")
    file.write_text(head + 'space: {agent.widths: ["8,8"]}')
    study = search(read_tune_spec(file), tmp_path / "tuning", say=lambda line: None)
    assert len({trial.value for trial in study.trials}) == 1 and len(study.trials) == TRIALS
    assert len(records(tmp_path / "tuning")) == 2  # the seeds of trial 0


def test_a_line_that_a_power_failure_cut_is_dropped(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tuning"
    before = search(read_tune_spec(file), folder, say=lambda line: None)
    with (folder / JOURNAL).open("a") as journal:
        journal.write('{"op_code":5,"worker')
    file.write_text(file.read_text().replace(f"trials: {TRIALS}", f"trials: {TRIALS + 1}"))
    after = search(read_tune_spec(file), folder, say=lambda line: None)
    assert len(after.trials) == TRIALS + 1
    assert after.trials[TRIALS - 1].value == before.trials[-1].value


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seeds: [1, 2]", "seeds: [1]", "another search: seeds is [1, 2] there and [1] here"),
        ("eval.every: 60", "eval.every: 80", "another search: settings is "),
        ("high: 1e-1", "high: 1e-2", "another search: space is "),
    ],
)
def test_refuses_the_folder_of_another_search(
    file: Path,
    tmp_path: Path,
    old: str,
    new: str,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file.write_text(file.read_text().replace(f"trials: {TRIALS}", "trials: 1"))
    assert tune.main([str(file), f"--folder={tmp_path / 'tuning'}"]) == 0
    capsys.readouterr()
    text = file.read_text()
    file.write_text(text.replace(old, new))
    status = tune.main([str(file), f"--folder={tmp_path / 'tuning'}"])
    assert words in complaint("mtrl tune", status, capsys)
    other = file.with_name("other.yaml")
    other.write_text(text)
    status = tune.main([str(other), f"--folder={tmp_path / 'tuning'}"])
    assert "holds the search mine; choose another" in complaint("mtrl tune", status, capsys)


def test_refuses_a_damaged_journal(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tuning"
    folder.mkdir()
    (folder / JOURNAL).write_text("neither\nJSON\n")
    status = tune.main([str(file), f"--folder={folder}"])
    assert f"{JOURNAL} is damaged" in complaint("mtrl tune", status, capsys)
