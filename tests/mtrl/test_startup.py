"""Commands that need no agent answer without importing torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mtrl.__main__ import COMMANDS
from mtrl.leaderboard.__main__ import COMMANDS as PARTS

HEAVY = ("torch", "numba", "gymnasium", "mujoco", "scipy", "numpy")


def imported(arguments: list[str], folder: Path) -> tuple[int, set[str], str]:
    """Exit status, heavy modules imported, and what a training command says."""
    code = (
        "import sys; from mtrl.train import main; status = main(sys.argv[1:]); "
        f"print('IMPORTED', *[name for name in {HEAVY} if name in sys.modules]); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=folder
    )
    return done.returncode, set(done.stdout.rpartition("IMPORTED")[2].split()), done.stderr


@pytest.mark.parametrize("command", ["", *COMMANDS, *(f"leaderboard {name}" for name in PARTS)])
def test_help_fits_the_terminal_and_imports_nothing_heavy(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    code = (
        "import sys; from mtrl.__main__ import main; status = main(sys.argv[1:]); "
        f"print('IMPORTED', *[name for name in {HEAVY} if name in sys.modules]); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command.split(), "--help"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    shown, _, heavy = done.stdout.rpartition("IMPORTED")
    assert (done.returncode, done.stderr, heavy.split()) == (0, "", [])
    assert shown.startswith("usage: ") and max(map(len, shown.splitlines())) <= 40


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], 0, ""),
        (["--help"], 0, ""),
        (
            ["mt10", "--agent.widht=3"],
            2,
            "agent.widht: unknown setting; did you mean agent.width?",
        ),
        (["mt11"], 2, "There is no suite 'mt11'; the nearest id is 'mt10'"),
        (["mt10", "--method=mtppp"], 2, "method: 'mtppp' is unknown; did you mean 'mtppo'?"),
        (
            ["mt10", "--agent.width=0"],
            2,
            "agent.width: '0' is not a whole number of at least 1",
        ),
        (["mt10", "--aggregator=cagard"], 2, "did you mean 'cagrad'?"),
        (
            ["mt10", "--agent.learning-rate=1e400"],
            2,
            "agent.learning_rate: '1e400' is not a finite number",
        ),
    ],
)
def test_answers_without_torch(
    arguments: list[str], status: int, words: str, tmp_path: Path
) -> None:
    found, heavy, complaint = imported(arguments, tmp_path)
    assert (found, heavy) == (status, set())
    assert words in complaint
    assert len(complaint.splitlines()) == (1 if words else 0)
