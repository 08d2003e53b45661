"""The promises of the workbench on MiniGrid: resume, evaluation, films."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import pytest

from mtrl import evaluate, train
from mtrl.agents import MTPPO
from mtrl.evaluation.evaluator import make_evaluator
from mtrl.evaluation.video import film
from mtrl.records.results import read_result
from tests.helpers.runs import final_record, final_state

SUITE = "mg3"
SETTINGS = [
    "--device=cpu", "--torch-threads=1", "--tensorboard=false", "--envs-per-task=2", "--total-env-steps=1152",
    "--log-every=192", "--checkpoint-every=384", "--eval.every=576", "--eval.episodes-per-task=2",
    "--agent.width=16", "--agent.channels=4", "--agent.rollout-per-task=64", "--agent.minibatches=2",
    "--agent.epochs=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("minigrid") / "whole"
    assert train.main([SUITE, f"--run-dir={run}", *SETTINGS]) == 0
    return run


def test_killed_and_resumed_is_bit_identical(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance, run = MTPPO.advance, tmp_path / "killed"
    command = [SUITE, f"--run-dir={run}", *SETTINGS]

    def die(self: MTPPO) -> Any:
        if self.env_steps >= 768:
            raise SystemExit("killed")
        return advance(self)

    with monkeypatch.context() as patch:
        patch.setattr(MTPPO, "advance", die)
        with pytest.raises(SystemExit, match="killed"):
            train.main(command)
    assert train.main(command) == 0
    assert final_state(run) == final_state(whole)
    assert final_record(run) == final_record(whole)


def test_evaluation_and_films_of_a_checkpoint(whole: Path, tmp_path: Path) -> None:
    saved = evaluate.find(whole)
    config = evaluate.evaluation_config(saved, {})
    evaluator = make_evaluator(config)
    try:
        agent = evaluate.load_agent(config, saved, evaluator)
        results = evaluator.evaluate(agent)
    finally:
        evaluator.close()
    recorded = read_result(whole / "result.json")["evaluations"][-1]["per_task"]
    assert {name: vars(result) for name, result in results.items()} == recorded
    files = film(config, agent, tmp_path / "films")
    assert [file.stem for file in files] == [*results, "all-tasks"]
    sizes = [imageio.imread(file, index=0).shape for file in files[:-1]]
    assert len(set(sizes)) > 1  # grids of different sizes
    assert all(len(size) == 3 and min(size[:2]) > 90 for size in sizes)
