from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mtrl.errors import RunFolderError, WriteError
from mtrl.training.run_folder import RunFolder, write_text

HOLD = """
import sys
from pathlib import Path
from mtrl.training.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_second_process_is_refused_until_the_first_dies(tmp_path: Path) -> None:
    run = tmp_path / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(RunFolderError, match=f"is in use by process {holder.pid}"),
        RunFolder(run),
    ):
        pass
    holder.kill()
    holder.communicate()
    with RunFolder(run):
        assert (run / ".lock").read_text() == str(os.getpid())


def test_folder_that_never_became_a_run_is_removed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with RunFolder(tmp_path / "mine" / "a" / "b"):
        pass
    assert list((tmp_path / "mine").iterdir()) == []


def test_run_stays(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run") as folder:
        write_text(folder.config, "seed: 1\n")
    assert folder.config.read_text() == "seed: 1\n"


def test_foreign_folder_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with (
        pytest.raises(RunFolderError, match="is not empty and holds no run"),
        RunFolder(tmp_path),
    ):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(WriteError, match="cannot be written"), RunFolder(tmp_path / "file"):
        pass


def test_leftovers_of_a_killed_process_go(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints" / ".tmp-000000000100").mkdir(parents=True)
    (run / ".tmp-result.json").write_text("{")
    (run / "config.yaml").write_text("seed: 1\n")
    with RunFolder(run) as folder:
        assert sorted(entry.name for entry in run.iterdir()) == [
            ".lock",
            "checkpoints",
            "config.yaml",
        ]
        assert list(folder.checkpoints.iterdir()) == []


def test_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    write_text(path, "old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        WriteError, match=r"result.json: cannot be written \(No space left on device\)"
    ):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]
