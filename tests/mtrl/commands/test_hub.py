"""``mtrl hub``: what a shared folder holds, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtrl import train
from mtrl.agents.sharing import hub as client
from mtrl.commands import hub
from mtrl.records.results import read_result
from mtrl.sharing.pack import pack, read_packed, without_run_dir
from tests.helpers.fakes import FakeAgent
from tests.mtrl.conftest import ShortConfig
from tests.mtrl.test_commands import SETTINGS, complaint


@pytest.fixture
def run(faked: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    folder = tmp_path / "run"
    assert train.main(["mt10:fake", f"--run-dir={folder}", *SETTINGS]) == 0
    capsys.readouterr()
    return folder


def test_pack(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "shared"
    assert hub.main(["pack", str(run), str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder}\n"
    names = {"agent.safetensors", "config.yaml", "result.json", "README.md"}
    assert {path.name for path in folder.iterdir()} == names
    assert FakeAgent.from_pretrained(folder).env_steps == 90
    config, record = read_packed(folder)
    assert config["run_dir"] is None and config["suite"] == "mt10:fake"
    assert str(tmp_path) not in (folder / "config.yaml").read_text()
    assert str(tmp_path) not in "".join(record["provenance"]["commands"])
    assert record["evaluations"] == read_result(run / "result.json")["evaluations"]


def test_model_card(run: Path, tmp_path: Path) -> None:
    card = (pack(run, tmp_path / "shared") / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: ")
    assert "# fake on mt10:fake, seed 0" in card
    assert "at 90 env steps, 4 episodes a task, one seed" in card
    last = read_result(run / "result.json")["evaluations"][-1]["per_task"]["task-2"]
    assert f"| task-2 | {last['successes'] / 4:.3f} | " in card
    assert (
        "from mtrl import FakeAgent, make_vec" in card
        and 'make_vec("mt10:fake", goal_seed=0)' in card
    )


def test_push_uploads_what_pack_writes(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent: list[tuple[set[str], str, bool]] = []

    def upload(folder: Path, hub_id: str, private: bool) -> str:
        sent.append(({path.name for path in folder.iterdir()}, hub_id, private))
        return f"https://hub/{hub_id}"

    monkeypatch.setattr(client, "upload", upload)
    assert hub.main(["push", str(run), "team/agent", "--private"]) == 0
    assert capsys.readouterr().out == "https://hub/team/agent\n"
    [(names, hub_id, private)] = sent
    assert "README.md" in names and hub_id == "team/agent" and private


def test_pull_prints_the_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(client, "fetch", lambda hub_id: Path("cache") / hub_id)
    assert hub.main(["pull", "team/agent"]) == 0
    assert capsys.readouterr().out == "cache/team/agent\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("pakc RUN x", "hub: 'pakc' is unknown; did you mean 'pack'?"),
        ("pack RUN", "hub pack: needs RUN and FOLDER"),
        ("pack RUN x --private", "private: goes with push, not with pack"),
        ("pack nowhere x", "RUN: nowhere is not a run folder (no config.yaml)"),
        ("pack RUN RUN", "is not empty"),
        ("push RUN agent", "hub_id: 'agent' is not written ORG/NAME"),
        ("pull RUN --privat", "privat: unknown setting; did you mean private?"),
        ("pull RUN --qqq=1", "qqq: unknown setting; --help shows all"),
    ],
)
def test_refuses(
    run: Path, arguments: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = hub.main([str(run) if word == "RUN" else word for word in arguments.split()])
    assert words in complaint("mtrl hub", status, capsys)


def test_commands_lose_their_folder() -> None:
    assert (
        without_run_dir("mtrl train mt10 --run-dir /tmp/x --seed 1")
        == "mtrl train mt10 --seed 1"
    )
    assert without_run_dir("mtrl train --run-dir=/tmp/x") == "mtrl train"


def test_a_run_without_checkpoint(short_config: ShortConfig, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("suite: mt10:fake\n")
    assert hub.main(["pack", str(tmp_path / "run"), str(tmp_path / "x")]) == 2
