"""``python -m mtrl.leaderboard COMMAND``: one module per command, loaded when it is called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from mtrl.threads import spin_briefly

COMMANDS = {
    "run": ("mtrl.leaderboard.run", "train suites x methods x seeds, restartable"),
    "build": (
        "mtrl.leaderboard.build",
        "make the page, its tables and plots from result files",
    ),
    "verify": ("mtrl.leaderboard.verify", "evaluate a row's final checkpoints again"),
    "check": ("mtrl.leaderboard.check", "validate result files"),
}
"""Name of each command: its module, which has ``run(arguments) -> exit status``, and what it does."""


USAGE = "usage: python -m mtrl.leaderboard COMMAND ...   (COMMAND --help shows its settings)"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status (0 done, 1 failed while running, 2 bad input)."""
    spin_briefly()
    from mtrl import cli  # imports torch, which must come after
    from mtrl.training.console import lasting_streams

    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        rows = cli.columns([(name, text) for name, (_, text) in COMMANDS.items()])
        print(f"{cli.fitted(USAGE)}\n\n{rows}")
        return 0
    with lasting_streams():
        return cli.run_command(
            "mtrl.leaderboard", lambda: _dispatch(arguments[0], arguments[1:])
        )


def _dispatch(command: str, arguments: list[str]) -> int:
    if command not in COMMANDS:
        from mtrl.errors import unknown

        raise unknown("COMMAND", command, COMMANDS)
    if not arguments or {"-h", "--help"} & set(arguments):
        from mtrl import cli
        from mtrl.leaderboard.usages import USAGES

        print(cli.fitted(USAGES[command]))
        return 0
    status: int = importlib.import_module(COMMANDS[command][0]).run(arguments)
    return status


if __name__ == "__main__":
    sys.exit(main())
