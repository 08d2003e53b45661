"""A network of one's own is one file: both agents train it on both families, and it saves, resumes and evaluates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mtrl import evaluate, train
from mtrl.agents import MTPPO, MTSAC, Agent
from mtrl.agents.networks.registry import NETWORKS
from mtrl.agents.settings import Entry
from tests.examples import gated
from tests.helpers.runs import final_record, final_state

KINDS: dict[str, type[Agent]] = {"mtppo": MTPPO, "mtsac": MTSAC}
SHORT: dict[str, list[str]] = {
    "mtppo": ["--rollout-per-task=80", "--minibatches=2", "--epochs=2", "--schedule=constant"],
    "mtsac": ["--learning-starts=40", "--batch-per-task=8", "--buffer-per-task=200"],
}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry("tests.examples.gated:Gated", "A gate for each task.")
    monkeypatch.setitem(NETWORKS.entries, "gated", entry)


def test_the_file_is_short() -> None:
    assert len(Path(gated.__file__).read_text().splitlines()) <= 60


@pytest.mark.parametrize("suite", ["mt10", "mg3"])
@pytest.mark.parametrize("algorithm", ["mtppo", "mtsac"])
def test_trains_saves_resumes_and_evaluates(
    algorithm: str, suite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = {"mt10": 10, "mg3": 3}[suite]
    base = [
        suite,
        f"--method={algorithm}",
        "--network=gated:sharpness=2",
        "--aggregator=cagrad",
        "--width=16",
        "--device=cpu",
        "--envs-per-task=4",
        "--eval.every=80/task",
        "--eval.episodes-per-task=1",
        "--eval.envs-per-task=1",
        "--checkpoint-every=80/task",
        "--tensorboard=false",
        *SHORT[algorithm],
    ]
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    assert train.main([*base, "--total-env-steps=160/task", f"--run-dir={whole}"]) == 0
    assert train.main([*base, "--total-env-steps=80/task", f"--run-dir={parted}"]) == 0
    assert train.main(["--resume", str(parted), f"--total-env-steps={160 * tasks}"]) == 0
    assert final_state(parted, lengthened=True) == final_state(whole, lengthened=True)
    last = [final_record(run)["evaluations"][-1] for run in (whole, parted)]
    assert last[0] == last[1]
    assert evaluate.main([str(whole), "--episodes=1"]) == 0
    assert "success" in capsys.readouterr().out

    checkpoint = next((whole / "checkpoints").glob(f"*{160 * tasks}"))
    agent: Any = KINDS[algorithm].load(checkpoint / "agent.safetensors")
    gates = agent.actor.owned(agent.state["actor"]["params"])["body.gate"]
    assert gates.shape == (1, tasks, 16)
    # Every task has moved its gate, and its own way.
    assert (gates != 0).any(-1).all()
    assert torch.unique(gates[0], dim=0).shape[0] == tasks
