"""The command ``mtrl``: which module each subcommand reaches, and what happens before any is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mtrl.__main__ import COMMANDS, main


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_overview_lists_every_command(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: mtrl COMMAND")
    for name, (_, text) in COMMANDS.items():
        assert name in shown and text in shown


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("train", "usage: python -m mtrl.train SUITE"),
        ("evaluate", "usage: python -m mtrl.evaluate RUN"),
        ("leaderboard", "usage: python -m mtrl.leaderboard COMMAND"),
        ("export", "usage: mtrl export RUN FILE"),
        ("watch", "usage: mtrl watch RUN"),
        ("tune", "usage: mtrl tune SPEC"),
        ("demo", "usage: mtrl demo SUITE"),
        ("plot", "usage: mtrl plot RUN [RUN ...]"),
        ("compare", "usage: mtrl compare A B"),
        ("hub", "usage: mtrl hub pack RUN FOLDER"),
    ],
)
def test_commands_take_the_arguments_behind_their_name(
    command: str, usage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    assert capsys.readouterr().out.startswith(usage)


def test_statuses_are_those_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", "chek"]) == 2
    assert capsys.readouterr().err.startswith(
        "mtrl.leaderboard: COMMAND: 'chek' is unknown; did you mean 'check'?"
    )


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("trian", "did you mean 'train'? use one of {names}"),
        ("eval", "did you mean 'evaluate'? use one of {names}"),
        ("mt10", "use one of {names}"),
    ],
)
def test_unknown_commands_get_one_sentence(
    command: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command]) == 2
    said = hint.replace("{names}", ", ".join(sorted(COMMANDS)))
    assert capsys.readouterr() == ("", f"mtrl: COMMAND: {command!r} is unknown; {said}\n")


def test_overview_loads_nothing_heavy() -> None:
    code = "import sys; from mtrl.__main__ import main; main([]); print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
