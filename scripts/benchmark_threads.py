"""Time mtsac on mt10 with libgomp's own spinning of PyTorch threads and with the spinning that the commands set.

    python scripts/benchmark_threads.py --json results/benchmark_threads.json

Every measurement is a process of its own, since libgomp reads GOMP_SPINCOUNT once: 50 env steps per task without
updates, some updates to warm up, then the wall-clock seconds of the updates that count. Settings take turns, quiet and
beside one busy process. The machine must be doing nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

from mtrl.threads import SPIN_COUNT

SPIN_COUNTS = {"libgomp": "300000", "mtrl": str(SPIN_COUNT)}
"""GOMP_SPINCOUNT by who sets it; the first is libgomp's own when there are as many CPUs as threads."""
SPINNER = "while True: pass"
LEARNING_STARTS, WARMUP = 50, 20


def train(updates: int, threads: int) -> float:
    """Seconds of ``updates`` updates of mtsac on mt10 and the simulation between them, in this process."""
    import torch

    from mtrl.agents import MTSAC
    from mtrl.envs import make_vec
    from mtrl.training.allocator import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(threads)
    env = make_vec("mt10", seed=0)
    agent = MTSAC(env, device="cpu", seed=0, learning_starts=LEARNING_STARTS)
    agent.learn((LEARNING_STARTS + WARMUP) * env.num_tasks)
    begun = time.monotonic()
    agent.learn(agent.env_steps + updates * env.num_tasks)
    seconds = time.monotonic() - begun
    env.close()
    return seconds


def measure(spin_count: str, busy: bool, updates: int, threads: int) -> float:
    """``train`` in a process of its own, beside one that is busy or not."""
    environment = os.environ | {"GOMP_SPINCOUNT": spin_count}
    for name in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS"):
        environment.pop(name, None)
    command = [
        sys.executable,
        __file__,
        "--child",
        f"--updates={updates}",
        f"--threads={threads}",
    ]
    spinner = subprocess.Popen([sys.executable, "-c", SPINNER]) if busy else None
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        )
    finally:
        if spinner is not None:
            spinner.kill()
            spinner.wait()
    return float(done.stdout)


def cpu_model() -> str:
    """Name of the CPU, as Linux has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        "unknown",
    )


def main() -> None:
    """Measure, print and, if asked, write JSON: seconds of every run, and ratios of their medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--updates", type=int, default=500, help="updates that count")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--repeats", type=int, default=3, help="processes of each kind")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(train(args.updates, args.threads))
        return
    kinds = [(name, place) for name in SPIN_COUNTS for place in ("quiet", "busy")]
    seconds: dict[tuple[str, str], list[float]] = {kind: [] for kind in kinds}
    for _ in range(args.repeats):
        for name, place in kinds:
            taken = measure(SPIN_COUNTS[name], place == "busy", args.updates, args.threads)
            seconds[name, place].append(taken)
            print(f"GOMP_SPINCOUNT={SPIN_COUNTS[name]:<8}{place:<7}{taken:8.1f} s", flush=True)
    medians = {kind: statistics.median(found) for kind, found in seconds.items()}
    ratios = {name: medians[name, "busy"] / medians[name, "quiet"] for name in SPIN_COUNTS}
    speedup = {
        place: medians["libgomp", place] / medians["mtrl", place] for place in ("quiet", "busy")
    }
    print(
        "busy over quiet: " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    )
    print(
        "libgomp's over mtrl's: "
        + ", ".join(f"{place} {ratio:.2f}" for place, ratio in speedup.items())
    )
    if args.json:
        about = {
            "cpu": cpu_model(),
            "cpus": len(os.sched_getaffinity(0)),
            "threads": args.threads,
        }
        result = {
            "what": f"seconds of {args.updates} updates of mtsac on mt10, wall clock",
            "spin_count": SPIN_COUNTS,
            "seconds": {
                name: {place: seconds[name, place] for place in ("quiet", "busy")}
                for name in SPIN_COUNTS
            },
            "busy_over_quiet": ratios,
            "libgomp_over_mtrl": speedup,
        }
        args.json.write_text(json.dumps(about | result, indent=1) + "\n")


if __name__ == "__main__":
    main()
