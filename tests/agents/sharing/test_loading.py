"""Agents from files, checkpoints, run folders and the Hub."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mtrl.agents import MTPPO, MTSAC, AgentError
from mtrl.agents.agent import Agent, without_optimizer
from mtrl.agents.files import read_state, write_state
from mtrl.agents.sharing import hub
from mtrl.agents.sharing.locate import agent_file
from mtrl.training import checkpoint
from tests.helpers import fakes

SMALL: dict[type[Agent], dict[str, Any]] = {
    MTPPO: {"width": 16, "rollout_per_task": 40, "epochs": 1, "minibatches": 2},
    MTSAC: {"width": 16, "batch_per_task": 8, "learning_starts": 10, "buffer_per_task": 100},
}
both = pytest.mark.parametrize("kind", SMALL)
OBS, TASKS = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32), np.arange(9) % 3


def _env() -> fakes.FakeEnv:
    return fakes.FakeEnv(fakes.get_suite("mt10:fake"), 2, 0, "random", 0, 0.0)


def trained(kind: type[Agent], steps: int = 240) -> Agent:
    return kind(_env(), device="cpu", **SMALL[kind]).learn(steps)


def actions(agent: Agent) -> np.ndarray:
    return agent.predict(OBS, deterministic=True, task_id=TASKS)[0]


def run_folder(folder: Path, agents: dict[int, Agent]) -> Path:
    """What a run writes, as far as loading goes."""
    (folder / "checkpoints").mkdir(parents=True)
    for steps, agent in agents.items():
        checkpoint.save(
            folder / "checkpoints", steps, {}, {"agent": agent.state_dict()}, agent.saved()
        )
    return folder


@both
def test_file_checkpoint_and_run_give_one_agent(kind: type[Agent], tmp_path: Path) -> None:
    agent = trained(kind)
    run = run_folder(
        tmp_path / "run", {7: kind(_env(), device="cpu", **SMALL[kind]), 240: agent}
    )
    newest = run / "checkpoints" / f"{240:012d}"
    for place in (newest / "agent.safetensors", newest, run):
        for load in (kind.load, kind.from_pretrained):
            loaded = load(place, device="cpu")
            assert loaded.env_steps == agent.env_steps
            np.testing.assert_array_equal(actions(loaded), actions(agent))
    assert (actions(kind.load(run / "checkpoints" / f"{7:012d}")) != actions(agent)).any()


def test_a_damaged_newest_checkpoint_is_left_out(tmp_path: Path) -> None:
    first, second = trained(MTPPO, 120), trained(MTPPO, 240)
    run = run_folder(tmp_path / "run", {120: first, 240: second})
    torn = run / "checkpoints" / f"{240:012d}" / "agent.safetensors"
    torn.write_bytes(torn.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=r"000000000240: damaged; using an older one"):
        assert MTPPO.load(run).env_steps == first.env_steps
    (run / "checkpoints" / f"{120:012d}" / "manifest.json").unlink()
    with pytest.raises(AgentError, match=r"every checkpoint in .* damaged"):
        MTPPO.load(run)


def test_a_run_of_another_agent_is_refused(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", {240: trained(MTSAC)})
    with pytest.raises(AgentError, match="holds agent 'mtsac'; MTPPO loads 'mtppo'"):
        MTPPO.load(run)


@both
def test_without_optimizer_acts_alike_and_learns_on(kind: type[Agent], tmp_path: Path) -> None:
    agent, path = trained(kind), tmp_path / "agent.safetensors"
    agent.save(path)
    whole = path.stat().st_size
    write_state(path, without_optimizer(read_state(path)))
    assert path.stat().st_size < whole
    loaded = kind.load(path, env=_env(), device="cpu")
    np.testing.assert_array_equal(actions(loaded), actions(agent))
    for tensors in loaded.state_dict(experience=False)["networks"].values():
        assert not any(tensors[name].any() for name in ("exp_avg", "step") if name in tensors)
    assert loaded.learn(480).env_steps >= 480


class FakeHub:
    """Stands in for huggingface_hub, and notes what it is asked."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, []  # type: ignore[var-annotated]

    def snapshot_download(self, hub_id: str, allow_patterns: list[str]) -> str:
        self.calls.append(("download", hub_id))
        if hub_id != "team/agent":
            raise OSError(f"404 Client Error\nRepository Not Found for {hub_id}")
        assert "agent.safetensors" in allow_patterns and "*" not in allow_patterns
        return str(self.folder)

    def HfApi(self) -> Any:
        return SimpleNamespace(
            create_repo=lambda hub_id, **how: self.calls.append(
                ("create", hub_id, how["private"])
            ),
            upload_folder=lambda **how: self.calls.append(
                ("upload", how["repo_id"], how["folder_path"])
            ),
        )


@pytest.fixture
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    folder = tmp_path / "cache"
    folder.mkdir()
    client = FakeHub(folder)
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)  # type: ignore[arg-type]
    return client


def test_from_the_hub(fake_hub: FakeHub) -> None:
    agent = trained(MTPPO)
    agent.save(fake_hub.folder / "agent.safetensors")
    loaded = MTPPO.from_pretrained("team/agent", device="cpu")
    np.testing.assert_array_equal(actions(loaded), actions(agent))
    assert fake_hub.calls == [("download", "team/agent")]
    with pytest.raises(
        AgentError, match=r"team/other is no local path, .*\(404 Client Error\)"
    ):
        MTPPO.from_pretrained("team/other")


def test_a_local_path_never_touches_the_network(
    fake_hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "team").mkdir()
    run_folder(tmp_path / "team" / "agent", {240: trained(MTPPO)})
    assert MTPPO.from_pretrained("team/agent").env_steps == 240
    for name in ("./team/other", "/team/other", "teams", "a/b/c", Path("team/other")):
        with pytest.raises(
            AgentError, match="does not exist, and a Hub id is written ORG/NAME"
        ):
            MTPPO.from_pretrained(name)
    assert fake_hub.calls == []


def test_upload(fake_hub: FakeHub, tmp_path: Path) -> None:
    address = hub.upload(tmp_path, "team/agent", private=True)
    assert address.endswith("/team/agent")
    assert fake_hub.calls == [
        ("create", "team/agent", True),
        ("upload", "team/agent", str(tmp_path)),
    ]
    with pytest.raises(AgentError, match="hub_id: 'agent' is not written ORG/NAME"):
        hub.upload(tmp_path, "agent")


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(AgentError, match="pip install huggingface_hub"):
        MTPPO.from_pretrained("team/agent")


def test_files_are_found_without_reading_them(tmp_path: Path) -> None:
    assert agent_file(tmp_path / "x") == tmp_path / "x"
    (tmp_path / "checkpoints" / "12").mkdir(parents=True)
    (tmp_path / "checkpoints" / "12" / "manifest.json").write_text(json.dumps({"sha256": 3}))
    with pytest.raises(AgentError, match="damaged"):
        agent_file(tmp_path)
