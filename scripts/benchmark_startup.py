"""How long the commands take to answer, as ratios to importing torch on the same machine.

python scripts/benchmark_startup.py --json results/benchmark_startup.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "torch": ["-c", "import torch"],
    "python": ["-c", "pass"],
    "list": ["-m", "mtrl.train"],
    "typo": ["-m", "mtrl.train", "mt10", "--agent.widht=3"],
    "help": ["-m", "mtrl.train", "--help"],
    "help of a method": ["-m", "mtrl.train", "mt10", "--help"],
}


def seconds(arguments: list[str]) -> float:
    """Wall-clock time of one command."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
    return time.perf_counter() - began


def main() -> None:
    """Time every command in turn, several times, and print the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(arguments.rounds):
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    report = {
        name: {"seconds": median, "over_torch": median / medians["torch"]}
        for name, median in medians.items()
    }
    for name, row in report.items():
        print(f"{name:18} {row['seconds']:6.2f} s  {row['over_torch']:5.2f} of importing torch")
    if arguments.json:
        arguments.json.write_text(json.dumps({"startup": report}, indent=1) + "\n")


if __name__ == "__main__":
    main()
