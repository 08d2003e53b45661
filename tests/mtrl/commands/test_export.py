"""Exported policies act as the agents they come from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtrl import demos
from mtrl.agents import MTPPO, MTSAC
from mtrl.agents.agent import Agent, EnvSpec
from mtrl.commands import export as command
from mtrl.errors import ConfigError, WorkbenchError
from mtrl.sharing.export import export
from tests.mtrl.test_commands import complaint

BOX = EnvSpec("fake", ("a", "b", "c"), 5, (-1.0, -2.0), (1.0, 3.0))
DISCRETE = EnvSpec("fake", ("a", "b", "c"), 5, num_actions=(4, 2, 3))
CASES: list[tuple[type[Agent], EnvSpec, dict[str, Any]]] = [
    (MTPPO, BOX, {"normalize_obs": True}),
    (MTPPO, BOX, {"heads": "one-hot", "deterministic_action": "mean"}),
    (MTPPO, DISCRETE, {}),
    (MTSAC, BOX, {}),
]
RNG = np.random.default_rng(3)
OBS, TASKS = RNG.normal(size=(11, 5)).astype(np.float32), np.arange(11) % 3


def made(kind: type[Agent], spec: EnvSpec, settings: dict[str, Any]) -> Agent:
    agent: Any = kind(spec, device="cpu", width=16, **settings)
    if settings.get("normalize_obs"):
        agent._normalizer.count(RNG.normal(3.0, 2.0, size=(100, 5)))
    return agent  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "spec", "settings"), CASES)
def test_equal_actions(
    kind: type[Agent], spec: EnvSpec, settings: dict[str, Any], tmp_path: Path
) -> None:
    agent = made(kind, spec, settings)
    program = torch.export.load(export(agent, tmp_path / "policy.pt2")).module()
    for rows in (11, 1):
        obs, tasks = OBS[:rows], TASKS[:rows]
        expected, _ = agent.predict(obs, deterministic=True, task_id=tasks)
        found = program(torch.from_numpy(obs), torch.from_numpy(tasks)).detach().numpy()
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.ptp(agent.predict(OBS, deterministic=True, task_id=TASKS)[0], axis=0).max() > 0


@pytest.mark.filterwarnings("ignore")
def test_onnx_runtime_agrees(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    agent = made(*CASES[0])
    session = runtime.InferenceSession(str(export(agent, tmp_path / "policy.onnx")))
    [found] = session.run(None, {"obs": OBS, "task_id": TASKS})
    expected, _ = agent.predict(OBS, deterministic=True, task_id=TASKS)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert session.get_modelmeta().custom_metadata_map["tasks"] == '["a", "b", "c"]'


def test_without_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(WorkbenchError, match="install them with: pip install onnx onnxscript"):
        export(made(*CASES[3]), tmp_path / "policy.onnx")


def test_agents_that_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="separate networks cannot be exported"):
        export(made(MTPPO, BOX, {"heads": "separate"}), tmp_path / "policy.pt2")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("MG7 x.pt2", "RUN: agents with grid observations cannot be exported"),
        ("MG7 x.pt", "FILE: x.pt does not end in .onnx or .pt2"),
        ("MG7", "RUN and FILE: 1 given"),
        ("nowhere x.pt2", "RUN: nowhere is not a run folder"),
    ],
)
def test_refuses(arguments: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(demos.demo_folder("mg7"))
    status = command.main([folder if word == "MG7" else word for word in arguments.split()])
    assert words in complaint("mtrl export", status, capsys)
