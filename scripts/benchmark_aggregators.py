"""Time the aggregators: the whole SAC update of MT10 and MT50 beside plain averaging, and each solve beside torchjd's.

    python scripts/benchmark_aggregators.py --quick --json aggregators.json

Methods that torchjd solves with quadprog or cvxpy are compared where those packages are installed
(``pip install "torchjd[full]"``) and have no reference time otherwise. Times are processor time of this process, so
that other load on the machine counts little, and the two are measured in turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torchjd.aggregation as reference
from torch import Tensor

from mtrl.agents import MTSAC, EnvSpec
from mtrl.agents.aggregators import (
    AGGREGATORS,
    Inputs,
    gramian,
    make_aggregator,
    parse_aggregator,
)
from mtrl.agents.data.replay import ReplayBuffer
from mtrl.training.allocator import keep_freed_memory

Report = dict[str, dict[str, object]]

# How torchjd is asked for the same weights; from the Gramian, except Nash-MTL.
REFERENCES: dict[str, Callable[[int], Callable[[Tensor], Tensor]]] = {
    "pcgrad": lambda m: reference.PCGradWeighting(),
    "gradvac": lambda m: reference.GradVacWeighting(),
    "cagrad": lambda m: reference.CAGradWeighting(c=0.5),
    "mgda": lambda m: reference.MGDAWeighting(),
    "imtl-g": lambda m: reference.IMTLGWeighting(),
    "nash-mtl": lambda m: reference.NashMTL(n_tasks=m).weighting,
    "fairgrad": lambda m: reference.FairGradWeighting(alpha=1.0),
    "aligned-mtl": lambda m: reference.AlignedMTLWeighting(),
    "upgrad": lambda m: reference.UPGradWeighting(),
    "dualproj": lambda m: reference.DualProjWeighting(),
    "config": lambda m: reference.ConFIG(),
    "sdmgrad": lambda m: reference.SDMGradWeighting(),
}
# These take the Jacobian where the others take the Gramian.
FROM_ROWS = {"nash-mtl", "config"}
# Settings that go around a method and change what an update costs.
AROUND = (
    "mean:flat_minima=0.05",
    "mean:look_ahead=0.05",
    "pcgrad:free=1",
    "aligned-mtl:free=1",
)
PARAMS = 1000


def milliseconds(
    runs: list[Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = time.process_time,
) -> list[float]:
    """Median time of each of ``runs``, taken in turns after one warm-up."""
    times: list[list[float]] = [[] for _ in runs]
    for repeat in range(repeats + 1):
        for run, found in zip(runs, times, strict=True):
            start = clock()
            run()
            if repeat:
                found.append(1e3 * (clock() - start))
    return [statistics.median(found) for found in times]


def solver(name: str, m: int, repeats: int) -> dict[str, object]:
    """Time of one solve, torchjd's time (null where it has none or lacks a package), and the residual."""
    generator = torch.Generator().manual_seed(m)
    rows = torch.randn(m, PARAMS, generator=generator)
    rows = rows - 0.5 * rows.mean(0)
    matrix = gramian(rows)
    aggregator = make_aggregator(name)
    shape = aggregator.noise_shape(m, PARAMS)
    noise = None if shape is None else torch.rand(shape, generator=generator)
    inputs = Inputs(
        gramian=matrix,
        cross_gramian=matrix,
        losses=torch.rand(m, generator=generator) + 1,
        noise=noise,
    )
    state = aggregator.init(m)
    runs: list[Callable[[], object]] = [lambda: aggregator.weights(inputs, state)]
    missing = None
    if name in REFERENCES:
        try:
            theirs = REFERENCES[name](m)
        except ImportError as error:
            missing = str(error).split(".")[0]
        else:
            stat = rows if name in FROM_ROWS else matrix
            runs.append(lambda: theirs(stat))
    found = milliseconds(runs, repeats)
    out, _ = aggregator.weights(inputs, state)
    report: dict[str, object] = {
        "ms": found[0],
        "residual": float(out.residual),
        "converged": bool(out.converged),
    }
    report["torchjd_ms"] = found[1] if len(found) > 1 else None
    report["speedup"] = found[1] / found[0] if len(found) > 1 else None
    return report | ({"torchjd_missing": missing} if missing else {})


def solvers(m: int, quick: bool) -> Report:
    """Every method that solves from the Gramian, at ``m`` tasks."""
    needs = {"gramian", "cross_gramian"}
    names = [name for name, cls in AGGREGATORS.items() if cls().info.needs & needs]
    return {name: solver(name, m, 3 if quick else 30) for name in names}


def two_updates(agent: MTSAC, buffer: ReplayBuffer) -> None:
    """So that a method which alternates has its turn."""
    for _ in range(2):
        agent.update(buffer.sample(128))


def updates(num_tasks: int, names: list[str], repeats: int) -> dict[str, float]:
    """Time of a SAC update (400x3, 128 samples per task) with each method over that of plain averaging: of the
    processor with one torch thread, of the clock on the wall with more, which processor time would count twice.

    A method that cannot serve the actor, whose loss changes sign, serves the critics alone.
    """
    spec = EnvSpec(
        "benchmark", tuple(f"task-{i}" for i in range(num_tasks)), 39, (-1.0,) * 4, (1.0,) * 4
    )
    buffer = ReplayBuffer(num_tasks, 500, 39, 4, torch.device("cpu"), seed=0)
    buffer.add(*(torch.rand(num_tasks, 500, *shape) for shape in [(39,), (4,), (), (), (39,)]))
    runs: list[Callable[[], object]] = []
    for name in names:
        actor = "mean" if parse_aggregator(name).info.needs_positive_loss else name
        agent = MTSAC(spec, critic_aggregator=name, actor_aggregator=actor, device="cpu")
        runs.append(lambda agent=agent: two_updates(agent, buffer))
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    found = milliseconds(runs, repeats, clock)
    plain = found[names.index("mean")]
    return {name: value / plain for name, value in zip(names, found, strict=True)}


def show(title: str, report: Report) -> None:
    """Print one table."""
    print(f"\n{title}\n{'method':<14}{'ms':>9}{'torchjd ms':>12}{'speedup':>9}{'residual':>11}")
    for name, row in report.items():
        theirs, speedup = row["torchjd_ms"], row["speedup"]
        known = (
            f"{theirs:>12.2f}{speedup:>9.1f}" if theirs is not None else f"{'-':>12}{'-':>9}"
        )
        mark = "" if row["converged"] else "  not converged"
        print(f"{name:<14}{row['ms']:>9.2f}{known}{row['residual']:>11.1e}{mark}")


def main() -> None:
    """Measure, print and, if asked, write JSON: ``{"mt10": {method: ratio}, "mt50": …, "solvers": {"10": …}}``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="few repeats: seconds instead of a minute"
    )
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="torch threads of the solves (1: problems this small only wait)",
    )
    args = parser.parse_args()
    keep_freed_memory()
    report: dict[str, object] = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    names = ["mean", *sorted(set(AGGREGATORS) - {"mean"}), *AROUND]
    for suite, num_tasks, repeats in (
        ("mt10", 10, 8 if args.quick else 40),
        ("mt50", 50, 2 if args.quick else 10),
    ):
        ratios = updates(num_tasks, names, repeats)
        report[suite] = ratios
        print(
            f"\nSAC update of {suite}, times plain averaging ({torch.get_num_threads()} threads)"
        )
        for name, ratio in sorted(ratios.items(), key=lambda item: item[1]):
            print(f"{name:<24}{ratio:>6.2f}")
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", message="You are solving a parameterized problem")
    tables: dict[str, Report] = {}
    for m in (10, 50):
        tables[str(m)] = solvers(m, args.quick)
        show(f"one solve, {m} tasks, float32 Gramian on the CPU", tables[str(m)])
    report["solvers"] = tables
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
