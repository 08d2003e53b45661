"""``mtrl demo`` and the agents that come with the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtrl import demos
from mtrl.agents import MTPPO
from mtrl.commands import demo
from mtrl.records.results import success_mean
from mtrl.sharing.pack import read_packed
from tests.mtrl.test_commands import complaint


def test_they_are_small_and_tell_what_they_are() -> None:
    assert "mg7" in demos.names()
    files = [path for path in demos.AGENTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 3_000_000
    for name in demos.names():
        flat, record = read_packed(demos.demo_folder(name))
        assert flat["suite"] == record["protocol"]["suite"] == name
        assert record["status"] == "finished" and not record["provenance"]["git_dirty"]
        card = (demos.demo_folder(name) / "README.md").read_text()
        mean = success_mean(record["evaluations"][-1]["per_task"])
        assert f"Mean success over tasks {mean:.3f}" in card
    card = (demos.demo_folder("mg7") / "README.md").read_text()
    assert "| DistShift1 | 1.000 | levels repeat |" in card
    assert "| MultiRoom-N2-S4 | 1.000 | 0.929 to 1.000 |" in card


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One episode a task: the agent does what its record says, and each film is a file."""
    target = tmp_path / "films"
    arguments = ["mg7", "--episodes=2", f"--video={target}", "--tasks=DoorKey-6x6,DistShift1"]
    assert demo.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mg7 mtppo, trained for 1,400,000 env steps"
    mean = float(next(line for line in lines if line.startswith("mean over tasks")).split()[3])
    assert mean > 0.7
    shown = [Path(line) for line in lines if line.startswith(str(target))]
    assert [path.stem for path in shown] == ["DoorKey-6x6", "DistShift1", "all-tasks"]
    assert all(path.stat().st_size > 1000 for path in shown)


def test_the_agent_loads_in_own_code() -> None:
    assert MTPPO.from_pretrained(demos.demo_folder("mg7")).spec.num_tasks == 7


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("mg8", "SUITE: 'mg8' has no agent here; did you mean 'mg7'?"),
        ("--video=x", "SUITE: 0 given; name one of"),
        ("mg7 --episodes=x", "episodes: 'x' is not a whole number"),
    ],
)
def test_refuses(arguments: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert words in complaint("mtrl demo", demo.main(arguments.split()), capsys)


def test_demo_checks_the_films_before_it_evaluates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = demo.main(["mg7", f"--video={tmp_path}", "--tasks=nothing"])
    captured = capsys.readouterr()
    assert (status, captured.out) == (2, "")
    assert captured.err.startswith("mtrl demo: tasks: 'nothing' is unknown")
