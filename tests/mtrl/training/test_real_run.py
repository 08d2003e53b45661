"""The promises of the workbench with a real suite and a real agent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mtrl import evaluate, train
from mtrl.agents import MTSAC
from mtrl.evaluation.evaluator import make_evaluator
from mtrl.records.results import read_result
from mtrl.training.checkpoint import newest_first
from tests.helpers.runs import final_record, final_state

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = ["--device=cpu", "--torch-threads=1", "--tensorboard=false", "--log-every=50"]
SETTINGS += [
    "--checkpoint-every=100",
    "--eval.every=150",
    "--eval.episodes-per-task=1",
    "--total-env-steps=260",
]
SETTINGS += [
    "--agent.width=16",
    "--agent.learning-starts=40",
    "--agent.batch-per-task=8",
    "--agent.buffer-per-task=200",
]


@pytest.fixture(scope="module", params=["native", "stock"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def arguments(run: Path, backend: str) -> list[str]:
    return [
        "mt1:reach-v3",
        "--method=mtsac",
        f"--run-dir={run}",
        f"--backend={backend}",
        *SETTINGS,
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, backend: str) -> Path:
    """A run that nothing interrupted."""
    run = tmp_path_factory.mktemp("real") / "whole"
    assert train.main(arguments(run, backend)) == 0
    return run


def test_killed_and_resumed_is_bit_identical(
    whole: Path, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance, run = MTSAC.advance, tmp_path / "killed"
    for last in (130, 240):

        def die(self: MTSAC, last: int = last) -> Any:
            if self.env_steps >= last:
                raise SystemExit("killed")
            return advance(self)

        with monkeypatch.context() as patch:
            patch.setattr(MTSAC, "advance", die)
            with pytest.raises(SystemExit, match="killed"):
                train.main(arguments(run, backend))
    assert train.main(arguments(run, backend)) == 0
    assert final_state(run) == final_state(whole)
    assert final_record(run) == final_record(whole)


def test_record(whole: Path, backend: str) -> None:
    record = read_result(whole / "result.json")
    assert record["status"] == "finished"
    assert record["protocol"]["tasks"] == ["reach-v3"]
    assert record["protocol"]["backend"] == backend
    assert (record["method"]["network"], record["method"]["heads"]) == ("mlp", "multi-head")
    assert record["provenance"]["precision"] in ("bf16", "fp32")
    assert (record["protocol"]["goal_seed"], record["protocol"]["eval_seed"]) == (
        record["seed"],
        None,
    )
    assert set(record["protocol"]["distinct_levels"].values()) == {
        record["protocol"]["episodes_per_task"]
    }
    assert [evaluation["env_steps"] for evaluation in record["evaluations"]] == [150, 260]
    assert {
        task["length_mean"] for e in record["evaluations"] for task in e["per_task"].values()
    } == {500.0}


def test_evaluate_gives_the_recorded_numbers_again(whole: Path) -> None:
    saved = evaluate.find(whole)
    config = evaluate.evaluation_config(saved, {})
    evaluator = make_evaluator(config)
    try:
        results = evaluator.evaluate(evaluate.load_agent(config, saved, evaluator))
    finally:
        evaluator.close()
    recorded = read_result(whole / "result.json")["evaluations"][-1]["per_task"]
    assert {name: vars(result) for name, result in results.items()} == recorded


@pytest.mark.slow
def test_sigkill_of_a_real_process(whole: Path, backend: str, tmp_path: Path) -> None:
    run = tmp_path / "killed"
    command = [sys.executable, "-m", "mtrl.train", *arguments(run, backend)]
    for steps in (0, 100):
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while not (newest := newest_first(run / "checkpoints")) or int(newest[0].name) <= steps:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, cwd=ROOT, env=os.environ, check=False).returncode == 0
    assert final_state(run) == final_state(whole)
    assert final_record(run) == final_record(whole)
