"""Print the rows of a folder of result files as a Markdown table, under the labels of the leaderboard.

python scripts/results_table.py results
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from mtrl.leaderboard.figures import FLAW
from mtrl.leaderboard.row import Row
from mtrl.leaderboard.runs import load
from mtrl.leaderboard.tables import Table, tables

HEAD = (
    "| suite | env steps | method | success | seed: its success | hours | raw files |\n"
    + "|---" * 7
    + "|"
)


def lines(folder: Path) -> Iterator[str]:
    """A line for each row that has a number: the mean over seeds, each seed's own, and the hours that a seed took."""
    runs, _ = load(folder, folder / "leaderboard")
    for table in tables(runs):
        for row in table.rows:
            if row.seeds:
                yield _line(folder, table, row)


def _line(folder: Path, table: Table, row: Row) -> str:
    each = ", ".join(f"{run.seed}: {mean:.3f}" for run, mean in zip(row.counted, row.seed_means))
    path = folder / row.counted[0].file
    where, text = (path.parent, f"{row.seeds} files") if row.seeds > 1 else (path, "1 file")
    cells = [table.suite, row.taken_text, row.label, f"{row.headline.value:.3f}{f' {FLAW}' * row.flawed}", each,
             f"{row.summaries['hours']:.2f}", f"[{text}]({where})"]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("results"))
    print(HEAD)
    for line in lines(parser.parse_args().folder):
        print(line)


if __name__ == "__main__":
    main()
