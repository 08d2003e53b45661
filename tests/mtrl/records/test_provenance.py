"""Which checkout a number comes from."""

from __future__ import annotations

import importlib.metadata
import subprocess
from pathlib import Path

import pytest

from mtrl.records.provenance import git_state, package_versions


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package committed in a repository of its own, beside published results."""
    folder = tmp_path / "mtrl"
    for path in (folder / "__init__.py", tmp_path / "results" / "run.json"):
        path.parent.mkdir()
        path.write_text("1\n")
    identity = [
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@example.org",
        "-c",
        "commit.gpgsign=false",
    ]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return folder


def test_a_changed_source_is_told_and_a_result_is_not(package: Path) -> None:
    commit, dirty = git_state(package)
    assert commit is not None and len(commit) == 40 and dirty is False
    git_state.cache_clear()
    (package.parent / "results" / "run.json").unlink()
    assert git_state(package) == (commit, False)
    git_state.cache_clear()
    (package / "__init__.py").write_text("2\n")
    assert git_state(package) == (commit, True)


def test_a_copy_that_its_repository_does_not_hold(package: Path) -> None:
    copy = package.parent / "elsewhere"
    copy.mkdir()
    (copy / "__init__.py").touch()
    assert git_state(copy) == (None, None)


def test_our_version_is_not_that_of_another_mtrl(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"mtrl": "1.0.0", "mtrl-suite": "0.1.0", "torch": "2.13.0"}

    def version(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert package_versions() == {"mtrl": "0.1.0", "torch": "2.13.0"}
