"""Time the curricula on mt10: a round of CAMRL beside the same updates without coupling, the others beside uniform.

    python scripts/benchmark_curricula.py --quick --json curricula.json

A round is all of training: acting, simulation, updates, and for CAMRL the row losses, Frank–Wolfe and the pulls. Times
are processor time of this process, so that other load on the machine counts little, and methods are measured in turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from mtrl.agents import MTSAC
from mtrl.envs import make_vec
from mtrl.training.allocator import keep_freed_memory

COUPLED = "warmup=0,switch=false"
SEPARATE = {"single-task": "uniform", "camrl": f"camrl:{COUPLED}"}
SHARED = {
    "uniform": "uniform",
    "camrl-shared": f"camrl-shared:{COUPLED}",
    "mrcl": "mrcl",
    "success-focal": "success-focal",
    "son-goku": "son-goku",
}


def make_agents(width: int, steps: int) -> dict[str, MTSAC]:
    """One agent for each method, past its random steps, about to begin a round of ``steps`` env steps of each task."""
    found = {}
    for heads, curricula in (("separate", SEPARATE), ("multi-head", SHARED)):
        for name, curriculum in curricula.items():
            # SON-GOKU decides at every step, and looks at the Gramian every 200.
            rounds = ""
            if name != "son-goku":
                separator = "," if ":" in curriculum else ":"
                rounds = f"{separator}round_steps={steps}"
            settings: dict[str, Any] = {"heads": heads, "curriculum": curriculum + rounds}
            env = make_vec("mt10", seed=0, num_threads=1)
            found[name] = MTSAC(
                env,
                device="cpu",
                width=width,
                learning_starts=20,
                buffer_per_task=4_000,
                **settings,
            )
            found[name].learn(20 * env.num_tasks)
    return found


def seconds_per_round(agents: dict[str, MTSAC], steps: int, repeats: int) -> dict[str, float]:
    """Median time of a round of each agent, taken in turns; the first rounds warm up."""
    times: dict[str, list[float]] = {name: [] for name in agents}
    for repeat in range(repeats + 1):
        for name, agent in agents.items():
            start = time.process_time()
            agent.learn(agent.env_steps + steps * agent.env.num_tasks)
            if repeat:
                times[name].append(time.process_time() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> None:
    """Measure, print and, if asked, write JSON: ``{"mt10": {"camrl_over_single_task": …, "over_uniform": {…}, …}}``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="short rounds, few repeats: a minute or two"
    )
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--width", type=int, default=400, help="units per hidden layer")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    args = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(args.threads)
    steps, repeats = (30, 3) if args.quick else (200, 5)
    found = seconds_per_round(make_agents(args.width, steps), steps, repeats)
    ratio = found["camrl"] / found["single-task"]
    over = {name: found[name] / found["uniform"] for name in found if name not in SEPARATE}
    milliseconds = {name: 1e3 * value / steps for name, value in found.items()}
    print(f"mt10, width {args.width}, rounds of {steps} env steps per task, processor time")
    print(f"{'method':<16}{'ms per vector step':>20}{'ratio':>8}")
    for name, value in milliseconds.items():
        print(
            f"{name:<16}{value:>20.1f}{over.get(name, found[name] / found['single-task']):>8.2f}"
        )
    print("ratios: camrl over single-task, the others over uniform")
    if args.json:
        result = {
            "camrl_over_single_task": ratio,
            "over_uniform": over,
            "ms_per_vector_step": milliseconds,
        }
        about = {
            "torch": torch.__version__,
            "threads": args.threads,
            "width": args.width,
            "round_steps": steps,
        }
        args.json.write_text(json.dumps({"mt10": result} | about, indent=1) + "\n")


if __name__ == "__main__":
    main()
