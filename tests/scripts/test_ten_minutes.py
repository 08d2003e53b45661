"""What the scripted first ten minutes take from a README."""

from __future__ import annotations

import pytest

from scripts.ten_minutes import ROOT, command_starting, set_up_command

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_set_up_ends_before_the_training() -> None:
    assert set_up_command(README) == "python3 -m venv .venv && .venv/bin/pip install -e ."


def test_the_training_is_the_shortest_of_the_readme() -> None:
    assert command_starting(README, "mtrl.train mg3") == "python -m mtrl.train mg3"


def test_comments_are_left_out() -> None:
    text = "text\npython -m mtrl demo mt10 --video films   # ten tasks\nmtrl demo mt10\n"
    assert command_starting(text, "mtrl demo mt10") == "python -m mtrl demo mt10 --video films"
    assert command_starting("mtrl demo mt10", "mtrl demo mt10") == "mtrl demo mt10"


def test_a_readme_without_the_command_is_refused() -> None:
    with pytest.raises(ValueError, match="has no command that starts with 'mtrl demo mt11'"):
        command_starting(README, "mtrl demo mt11")
    with pytest.raises(ValueError, match="sets up and trains"):
        set_up_command("nothing")
