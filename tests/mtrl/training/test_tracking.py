"""``--track wandb``, with a stand-in for the package."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mtrl import train
from tests.mtrl.test_commands import SETTINGS, complaint

TRACKED = [each for each in SETTINGS if "tensorboard" not in each]


class FakeWandb(ModuleType):
    """Notes how runs begin and end, and what was there at the time."""

    def __init__(self, folder: Path) -> None:
        super().__init__("wandb")
        self.folder, self.calls = folder, []  # type: ignore[var-annotated]

    def init(self, **how: Any) -> Any:
        self.calls.append(("init", how, (self.folder / "tensorboard").exists()))
        return self

    def finish(self, exit_code: int = 0) -> None:
        self.calls.append(("finish", exit_code))


@pytest.fixture
def wandb(faked: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    module = FakeWandb(tmp_path / "run")
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_a_run_is_tracked_and_goes_on_under_its_id(wandb: FakeWandb) -> None:
    arguments = [f"--run-dir={wandb.folder}", *TRACKED, "--track=wandb"]
    assert train.main(["mt10:fake", *arguments]) == 0
    (_, how, writer_was_there), finish = wandb.calls
    assert how["sync_tensorboard"] and how["resume"] == "allow" and not writer_was_there
    assert how["config"]["suite"] == "mt10:fake" and how["group"] == "mt10:fake fake"
    assert finish == ("finish", 0)
    assert (
        train.main(["--resume", str(wandb.folder), "--total-env-steps=120", "--track", "wandb"])
        == 0
    )
    assert wandb.calls[2][1]["id"] == how["id"]


def test_a_run_that_fails_is_marked(
    wandb: FakeWandb, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"--run-dir={wandb.folder}", *TRACKED, "--track=wandb", "--agent.nan-at=30"]
    assert train.main(["mt10:fake", *arguments]) == 1
    assert wandb.calls[-1] == ("finish", 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--track=wandbb"], "track: 'wandbb' is unknown; did you mean 'wandb'?"),
        (["--track=wandb", "--tensorboard=false"], "and tensorboard is false"),
        (["--track=wandb", "--seeds=1,2"], "follows one run a process"),
    ],
)
def test_refuses(
    wandb: FakeWandb, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = train.main(["mt10:fake", f"--run-dir={wandb.folder}", *TRACKED, *arguments])
    assert words in complaint("mtrl.train", status, capsys)
    assert wandb.calls == [] and not wandb.folder.exists()


def test_without_the_package(
    wandb: FakeWandb, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert (
        train.main(["mt10:fake", f"--run-dir={wandb.folder}", *TRACKED, "--track=wandb"]) == 1
    )
    assert "pip install wandb" in capsys.readouterr().err
