"""Speed of the environments beside the stock vector environments, in one run so that ratios are fair.

    python scripts/benchmark_envs.py --quick
    python scripts/benchmark_envs.py --json envs.json

Rows take turns, round by round, and the medians over rounds are reported: env steps per second, per CPU-second of all
processes, and peak memory. Each row runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmark_minigrid import minigrid  # noqa: E402

from envs import backends, make_vec  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")


def stock_vector_env(strategy: str) -> Any:
    """What a user of the stock package gets."""
    import gymnasium
    import metaworld  # noqa: F401  registers the ids

    return gymnasium.make_vec("Meta-World/MT10", vector_strategy=strategy, seed=0)


def rows(quick: bool) -> dict[str, Callable[[], Any]]:
    """Name of each row -> what makes its environment; names end in the number of environments."""
    table: dict[str, Callable[[], Any]] = {
        "sync_10": lambda: stock_vector_env("sync"),
        "async_10": lambda: stock_vector_env("async"),
    }
    for backend in backends("mt10"):
        for envs_per_task in (1, 2) if quick else (1, 2, 10):
            table[f"{backend}_{10 * envs_per_task}"] = _ours(backend, envs_per_task)
    return table


def _ours(backend: str, envs_per_task: int) -> Callable[[], Any]:
    return lambda: make_vec("mt10", envs_per_task, backend=backend)


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in family(int(child)))]


def cpu_seconds() -> float:
    """CPU time so far of this process, all its threads and its descendants."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in family(os.getpid())]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / TICK


def peak_memory_mb() -> float:
    """Sum of the peak resident memory of this process and its descendants; shared pages count once for each."""
    statuses = [Path(f"/proc/{pid}/status").read_text().splitlines() for pid in family(os.getpid())]
    return sum(int(line.split()[1]) for lines in statuses for line in lines if line.startswith("VmHWM")) / 2**10


def serve(row: str, quick: bool) -> None:
    """Runs in a row's own process: one measurement for each line on standard input."""
    begin = time.perf_counter()
    env = rows(quick)[row]()
    env.reset()
    startup = time.perf_counter() - begin
    actions = np.random.default_rng(0).uniform(-1, 1, (64, env.num_envs, 4)).astype(np.float32)
    print(json.dumps({"startup_s": startup}), flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(env, actions, float(line))), flush=True)
    env.close()


def measure(env: Any, actions: np.ndarray, seconds: float) -> dict[str, float]:
    """Random actions for about ``seconds``, resets at episode ends included."""
    steps, cpu, begin = 0, cpu_seconds(), time.perf_counter()
    while (wall := time.perf_counter() - begin) < seconds:
        env.step(actions[steps % len(actions)])
        steps += 1
    cpu = cpu_seconds() - cpu
    env_steps = steps * env.num_envs
    return {"per_s": env_steps / wall, "per_cpu_s": env_steps / cpu, "peak_memory_mb": peak_memory_mb()}


def run(quick: bool) -> dict[str, dict[str, float]]:
    """Measures all rows in turn."""
    command = [sys.executable, __file__, *(["--quick"] if quick else []), "--row"]
    processes, results = {}, {}
    for row in rows(quick):
        processes[row] = subprocess.Popen([*command, row], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        results[row] = _reply(processes[row])
    rounds: dict[str, list[dict[str, float]]] = {row: [] for row in processes}
    for _ in range(3 if quick else 7):
        for row, process in processes.items():
            assert process.stdin is not None
            print(1.5 if quick else 5, file=process.stdin, flush=True)
            rounds[row].append(_reply(process))
    for row, process in processes.items():
        process.communicate()
        results[row] |= {key: median(one[key] for one in rounds[row]) for key in rounds[row][0]}
    return results


def _reply(process: subprocess.Popen[str]) -> dict[str, float]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"A row ended early; run it alone to see why: {process.args}")
    reply: dict[str, float] = json.loads(line)
    return reply


def ratios(results: dict[str, dict[str, float]]) -> dict[str, float]:
    """Each of our rows over stock sync, in env steps a second and in env steps a CPU-second (``..._cpu``)."""
    base = results["sync_10"]
    table = {}
    for row, result in results.items():
        if row != "sync_10":
            name, _, size = row.rpartition("_")
            table[f"{name}_over_sync_{size}"] = result["per_s"] / base["per_s"]
            table[f"{name}_over_sync_{size}_cpu"] = result["per_cpu_s"] / base["per_cpu_s"]
    return table


def metaworld(quick: bool) -> dict[str, Any]:
    """The Meta-World section: rows, their ratios, and a printed table."""
    results = run(quick)
    print("MT10, random actions      env steps/s   per CPU-s     peak MB   startup s   x sync  per CPU-s")
    table = ratios(results)
    for row, one in results.items():
        name, _, size = row.rpartition("_")
        wall, cpu = (table.get(f"{name}_over_sync_{size}{kind}", 1.0) for kind in ("", "_cpu"))
        cells = f"{one['per_s']:11.0f} {one['per_cpu_s']:11.0f} {one['peak_memory_mb']:11.0f} {one['startup_s']:11.1f}"
        print(f"{name:>14} {size:>4} envs  {cells} {wall:8.2f} {cpu:10.2f}")
    return {"rows": results} | table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under a minute, with fewer sizes and rounds")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        serve(arguments.row, arguments.quick)
        return
    sections = {"metaworld": metaworld, "minigrid": minigrid}
    numbers = {name: section(arguments.quick) for name, section in sections.items()}
    if arguments.json:
        arguments.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
