"""A new setting is one field of a dataclass: help, resolved file and command line follow by themselves."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
NEW = '    curiosity: Share = 0.25\n    """How curious the agent is."""\n'


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages in which MTPPO's settings have one more field."""
    root = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "mtrl", root / "mtrl", ignore=shutil.ignore_patterns("__pycache__"))
    settings = root / "mtrl/agents/ppo/settings.py"
    text = settings.read_text()
    before = "    gradient_diagnostics: bool"
    assert text.count(before) == 1
    settings.write_text(text.replace(before, NEW + before))
    return root


def run(
    copy: Path, *arguments: str, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {
        "PYTHONPATH": str(copy),
        "PATH": "/usr/bin:/bin",
        "COLUMNS": "120",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-P", "-m", "mtrl.train", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=folder or copy
    )


def test_help_shows_it(copy: Path) -> None:
    shown = run(copy, "mg3", "--help").stdout
    assert (
        "--agent.curiosity=0.25\n      A number of at least 0 and at most 1. How curious the agent is."
        in shown
    )


def test_the_command_line_checks_it(copy: Path) -> None:
    assert "--agent.curiosity=0.5" in run(copy, "mg3", "--curiosity=0.5", "--help").stdout
    refused = run(copy, "mg3", "--agent.curiosity=2")
    assert (refused.returncode, refused.stderr) == (
        2,
        "mtrl.train: agent.curiosity: '2' is not a number of at least 0 and at most 1\n",
    )
    mistyped = run(copy, "mg3", "--agent.curiosty=1")
    assert "agent.curiosty: unknown setting; did you mean agent.curiosity?" in mistyped.stderr


def test_the_resolved_file_holds_it(copy: Path, tmp_path: Path) -> None:
    code = (
        "from mtrl.settings.config import to_yaml; from mtrl.settings.presets import resolve; "
        "print(to_yaml(resolve({'suite': 'mg3'})))"
    )
    environment = {"PYTHONPATH": str(copy), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert "\nagent.curiosity: 0.25\n" in done.stdout, done.stderr
