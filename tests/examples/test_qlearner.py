"""An agent of one's own is one file: it trains, saves, resumes and evaluates like those of the suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtrl import evaluate, train
from mtrl.records.results import read_result, success_mean
from mtrl.settings.algorithms import ALGORITHMS, Algorithm
from tests.examples import qlearner
from tests.helpers.runs import final_record, final_state

HOME = "tests.examples.qlearner"


@pytest.fixture
def method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The method file of the agent, which is registered while the test runs."""
    monkeypatch.setitem(
        ALGORITHMS, "q-learner", Algorithm(f"{HOME}:QConfig", f"{HOME}:QLearner")
    )
    file = tmp_path / "q-learner.yaml"
    file.write_text("# Q-learning with a table for each task.\nalgorithm: q-learner\n")
    return str(file)


def test_the_file_is_short() -> None:
    assert len(Path(qlearner.__file__).read_text().splitlines()) <= 60


def test_trains_saves_resumes_and_evaluates(
    method: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = [
        "mg1:Empty-5x5",
        f"--method={method}",
        "--eval.every=8000",
        "--checkpoint-every=8000",
        "--tensorboard=false",
    ]
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    assert train.main([*base, "--total-env-steps=16000", f"--run-dir={whole}"]) == 0
    assert (
        success_mean(read_result(whole / "result.json")["evaluations"][-1]["per_task"]) == 1.0
    )
    assert train.main([*base, "--total-env-steps=8000", f"--run-dir={parted}"]) == 0
    assert train.main(["--resume", str(parted), "--total-env-steps=16000"]) == 0
    assert final_state(parted, lengthened=True) == final_state(whole, lengthened=True)
    assert final_record(parted)["evaluations"] == final_record(whole)["evaluations"]
    assert evaluate.main([str(whole), "--episodes=3"]) == 0
    assert "1.000" in capsys.readouterr().out
    loaded = qlearner.QLearner.load(
        next((whole / "checkpoints").glob("*16000")) / "agent.safetensors"
    )
    assert loaded.env_steps == 16_000
