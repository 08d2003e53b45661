"""``mtrl COMMAND ...``, or ``python -m mtrl COMMAND ...``: one module per command, loaded when it is named."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from mtrl.envs.errors import choices

COMMANDS = {
    "train": ("mtrl.train", "train an agent, or continue a run"),
    "evaluate": ("mtrl.evaluate", "evaluate a run's checkpoint again, or film it"),
    "tune": ("mtrl.commands.tune", "search settings with Optuna"),
    "plot": ("mtrl.commands.plot", "draw learning curves and per-task bars of runs"),
    "compare": ("mtrl.commands.compare", "compare two methods: settings, tasks, verdict"),
    "demo": (
        "mtrl.commands.demo",
        "evaluate and film a trained agent that comes with the package",
    ),
    "watch": ("mtrl.commands.watch", "watch a run's policy in a window"),
    "export": (
        "mtrl.commands.export",
        "write a policy as a program for PyTorch or ONNX Runtime",
    ),
    "hub": (
        "mtrl.commands.hub",
        "share a trained agent as a folder, or on the Hugging Face Hub",
    ),
    "leaderboard": (
        "mtrl.leaderboard.__main__",
        "run sweeps; build, check and verify the leaderboard",
    ),
}
"""Name of each command: its module, which has ``main(arguments) -> exit status``, and what it does."""

USAGE = "usage: mtrl COMMAND ...   (COMMAND --help shows its settings)"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status (0 done, 1 failed while running, 2 bad input)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return 0
    command = arguments[0]
    if command not in COMMANDS:
        print(
            f"mtrl: COMMAND: {command!r} is unknown; {choices(command, COMMANDS)}",
            file=sys.stderr,
        )
        return 2
    status: int = importlib.import_module(COMMANDS[command][0]).main(arguments[1:])
    return status


def overview() -> str:
    """The usage and every command, one line each where the terminal is wide enough."""
    from mtrl import cli

    rows = cli.columns([(name, text) for name, (_, text) in COMMANDS.items()])
    return f"{cli.fitted(USAGE)}\n\n{rows}"


if __name__ == "__main__":
    sys.exit(main())
