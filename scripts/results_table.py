"""Print the finished runs in a folder of result files as a Markdown table: a line for each suite, budget and method.

python scripts/results_table.py results
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import mean

from mtrl.results import Record, read_result, success_mean

HEAD = "| suite | env steps | method | success | seed: its success | hours | raw files |\n" + "|---" * 7 + "|"
Found = tuple[Path, Record]


def success(record: Record) -> float:
    """Mean over tasks of the final evaluation."""
    return success_mean(record["evaluations"][-1]["per_task"])


def row_of(found: Found) -> tuple[str, str, int, str, str]:
    """What runs in one line have in common: folder, suite, budget, method, and the agent's settings."""
    path, record = found
    method, suite = record["method"], record["protocol"]["suite"]
    budget = int(method["params"].get("total_env_steps", record["budget"]["env_steps"]))  # rollouts end a little later
    settings = {name: value for name, value in method["params"].items() if name.startswith("agent.")}
    return str(path.parent), suite, budget, method["name"], json.dumps(settings, sort_keys=True)


def line(runs: Sequence[Found]) -> str:
    """One method: the mean over seeds of the mean over tasks, each seed's own, and the hours that a seed took."""
    folder, suite, steps, method, _ = row_of(runs[0])
    records = sorted((record for _, record in runs), key=lambda record: record["seed"])
    each = ", ".join(f"{record['seed']}: {success(record):.3f}" for record in records)
    hours = mean(record["evaluations"][-1]["wall_s"] for record in records) / 3600
    where = f"[{folder}]({folder})" if len(runs) > 1 else f"[{runs[0][0].name}]({runs[0][0]})"
    average = f"{mean(map(success, records)):.3f}"
    return "| " + " | ".join([suite, f"{steps:,}", method, average, each, f"{hours:.2f}", where]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("results"))
    folder = parser.parse_args().folder
    paths = sorted(path for path in folder.rglob("*.json") if path.parent != folder)  # beside them lie benchmarks
    finished = [(path, record) for path in paths if (record := read_result(path))["status"] == "finished"]
    lines = [list(runs) for _, runs in groupby(sorted(finished, key=row_of), key=row_of)]
    print(HEAD)
    for runs in lines:
        print(line(runs))


if __name__ == "__main__":
    main()
