"""An agent that learns from data alone progresses in gradient steps: trainer, checkpoints and records follow."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtrl import train
from mtrl.records.results import read_result, success_mean
from mtrl.settings.algorithms import ALGORITHMS, Algorithm
from tests.examples.cloner import Cloner
from tests.helpers.runs import final_record, final_state

HOME = "tests.examples.cloner"


@pytest.mark.usefixtures("faked")
def test_budget_checkpoints_and_records_count_gradient_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(
        ALGORITHMS, "cloner", Algorithm(f"{HOME}:CloneConfig", f"{HOME}:Cloner")
    )
    file = tmp_path / "cloner.yaml"
    file.write_text("# Behavior cloning.\nalgorithm: cloner\n")
    base = [
        "mt10:fake",
        f"--method={file}",
        "--eval.every=150",
        "--eval.episodes-per-task=4",
        "--tensorboard=false",
    ]
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    assert train.main([*base, "--total-env-steps=300", f"--run-dir={whole}"]) == 0
    assert "after 300 gradient steps" in capsys.readouterr().err
    record = read_result(whole / "result.json")
    assert [(e["env_steps"], e["gradient_steps"]) for e in record["evaluations"]] == [
        (0, 150),
        (0, 300),
    ]
    assert success_mean(record["evaluations"][-1]["per_task"]) == 1.0
    assert sorted(path.name for path in (whole / "checkpoints").iterdir()) == [
        "000000000150",
        "000000000300",
    ]
    assert train.main([*base, "--total-env-steps=150", f"--run-dir={parted}"]) == 0
    assert train.main(["--resume", str(parted), "--total-env-steps=300"]) == 0
    assert "from 150 gradient steps" in capsys.readouterr().out
    assert final_state(parted, lengthened=True) == final_state(whole, lengthened=True)
    assert final_record(parted)["evaluations"] == final_record(whole)["evaluations"]


def test_learn_counts_gradient_steps() -> None:
    from tests.helpers import fakes

    agent = Cloner(fakes.make_vec("mt10:fake", 2, seed=0)).learn(40)
    assert (agent.gradient_steps, agent.env_steps) == (40, 0)
