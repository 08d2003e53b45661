"""``mtrl compare A B``: what two methods set differently, and whether one succeeds more often."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from mtrl import cli
from mtrl.errors import ConfigError

USAGE = """usage: mtrl compare A B

Prints the settings in which A and B differ, each task's success with Welch's 95 % interval of the difference over
seeds, and a verdict on the mean over tasks. A star marks an interval without zero.

  A, B  a run's folder, its result file, or a folder of runs that differ in their seeds, as runs/mt10/mtppo;
        an interval needs two seeds on each side"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status (0 done, 1 failed while running, 2 bad input)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return cli.run_command("mtrl compare", lambda: _run(arguments))


def _run(argv: list[str]) -> int:
    words, options = cli.parse(argv, {})
    if not argv or "help" in options:
        print(cli.fitted(USAGE))
        return 0
    if len(words) != 2:
        raise ConfigError(f"A and B: {len(words)} given; name two runs or folders of runs")
    from mtrl.analysis.compare import read_side, report

    sides = [read_side(name, Path(word)) for name, word in zip(("A", "B"), words)]
    print(report(*sides))
    return 0


if __name__ == "__main__":
    sys.exit(main())
