"""Print the runs in a folder of result files as a Markdown table, final evaluations only.

python scripts/results_table.py results
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mtrl.results import Record, read_result, success_mean

HEAD = "| suite | method | seed | env steps | success at the end | hours | engine | raw file |\n" + "|---" * 8 + "|"


def row(path: Path, record: Record) -> str:
    """One run: mean over tasks of the final success, the counts behind it, and what it took."""
    last = record["evaluations"][-1]
    tasks = last["per_task"].values()
    counts = f"{sum(task['successes'] for task in tasks)}/{sum(task['episodes'] for task in tasks)}"
    cells = [
        record["protocol"]["suite"],
        record["method"]["name"],
        record["seed"],
        f"{last['env_steps']:,}",
        f"{success_mean(last['per_task']):.3f} ({counts})",
        f"{last['wall_s'] / 3600:.2f}",
        record["protocol"]["backend"],
        f"[{path.name}]({path})",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("results"))
    folder = parser.parse_args().folder
    found = sorted(path for path in folder.rglob("*.json") if path.parent != folder)  # beside them lie benchmarks
    print(HEAD)
    for path in found:
        print(row(path, read_result(path)))


if __name__ == "__main__":
    main()
