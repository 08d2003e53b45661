from __future__ import annotations

import importlib

import pytest

from mtrl.leaderboard.__main__ import COMMANDS, main


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"]):
        assert main(arguments) == 0
        shown = capsys.readouterr().out
        assert all(name in shown for name in COMMANDS)


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name, (module, _) in COMMANDS.items():
        assert callable(importlib.import_module(module).run)
        assert main([name, "--help"]) == 0
        assert f"usage: python -m mtrl.leaderboard {name}" in capsys.readouterr().out


def test_unknown_command_is_refused_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["chek"]) == 2
    assert capsys.readouterr().err.startswith(
        "mtrl.leaderboard: COMMAND: 'chek' is unknown; did you mean 'check'?"
    )
