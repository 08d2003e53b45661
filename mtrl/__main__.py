"""``mtrl COMMAND ...``, or ``python -m mtrl COMMAND ...``: one module per command, loaded when it is named."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "train": ("mtrl.train", "train an agent, or continue a run"),
    "evaluate": ("mtrl.evaluate", "evaluate a run's checkpoint again, or film it"),
    "leaderboard": ("mtrl.leaderboard.__main__", "run sweeps; build, check and verify the leaderboard"),
}
"""Name of each command: its module, which has ``main(arguments) -> exit status``, and what it does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status (0 done, 1 failed while running, 2 bad input)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return 0
    command = arguments[0]
    if command not in COMMANDS:
        print(f"mtrl: {_unknown(command)}", file=sys.stderr)
        return 2
    status: int = importlib.import_module(COMMANDS[command][0]).main(arguments[1:])
    return status


def overview() -> str:
    """The usage and every command, one line each."""
    width = max(len(name) for name in COMMANDS)
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["usage: mtrl COMMAND ...   (COMMAND --help shows its settings)", "", *lines])


# mtrl.cli would say both in the same words, but importing it takes seconds: it loads PyTorch.
def _unknown(command: str) -> str:
    close = difflib.get_close_matches(command, COMMANDS, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"the commands are {', '.join(COMMANDS)}"
    return f"COMMAND: {command!r} is unknown; {hint}"


if __name__ == "__main__":
    sys.exit(main())
