"""``mtrl plot RUN... [--out FILE]``: learning curves and per-task bars of runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from mtrl import cli
from mtrl.errors import ConfigError

USAGE = """usage: mtrl plot RUN [RUN ...] [--out FILE]

Draws success by env steps and by hours, averaged over tasks, with 95 % intervals over seeds, and bars of each task at
the last evaluation. Runs that differ in their seeds only become one curve.

  RUN         a run's folder, its result file, or a folder of such, as runs/mt10/mtppo or results/mt10/3m/mtppo
  --out=FILE  where to draw: .png, .svg or .pdf; by default learning-curves.png

Needs the package matplotlib."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status (0 done, 1 failed while running, 2 bad input)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return cli.run_command("mtrl plot", lambda: _run(arguments))


def _run(argv: list[str]) -> int:
    words, options = cli.parse(argv, {"out": str})
    if not argv or "help" in options:
        print(cli.fitted(USAGE))
        return 0
    if not words:
        raise ConfigError("RUN: none given; name one run or more")
    from mtrl.analysis.figure import draw
    from mtrl.analysis.series import read_series

    series = read_series([Path(word) for word in words])
    print(draw(series, Path(options.get("out", "learning-curves.png"))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
