"""Time the aggregators: each solve beside torchjd's on Gramians of 10 and of 50 tasks.

    python scripts/benchmark_aggregators.py --quick --json aggregators.json

Methods that torchjd solves with quadprog or cvxpy are compared where those packages are installed
(``pip install "torchjd[full]"``) and have no reference time otherwise. Times are processor time of this process, so
that other load on the machine counts little, and the two are measured in turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torchjd.aggregation as reference
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents.aggregators import AGGREGATORS, Inputs, gramian, make_aggregator

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
PARAMS = 1000


def milliseconds(runs: list[Callable[[], object]], repeats: int) -> list[float]:
    """Median processor time of each of ``runs``, taken in turns after one warm-up."""
    times: list[list[float]] = [[] for _ in runs]
    for repeat in range(repeats + 1):
        for run, found in zip(runs, times, strict=True):
            start = time.process_time()
            run()
            if repeat:
                found.append(1e3 * (time.process_time() - start))
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
    inputs = Inputs(gramian=matrix, cross_gramian=matrix, losses=torch.rand(m, generator=generator) + 1, noise=noise)
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
    report: dict[str, object] = {"ms": found[0], "residual": float(out.residual), "converged": bool(out.converged)}
    report["torchjd_ms"] = found[1] if len(found) > 1 else None
    report["speedup"] = found[1] / found[0] if len(found) > 1 else None
    return report | ({"torchjd_missing": missing} if missing else {})


def solvers(m: int, quick: bool) -> Report:
    """Every method that solves from the Gramian, at ``m`` tasks."""
    needs = {"gramian", "cross_gramian"}
    names = [name for name, cls in AGGREGATORS.items() if cls().info.needs & needs]
    return {name: solver(name, m, 3 if quick else 30) for name in names}


def show(title: str, report: Report) -> None:
    """Print one table."""
    print(f"\n{title}\n{'method':<14}{'ms':>9}{'torchjd ms':>12}{'speedup':>9}{'residual':>11}")
    for name, row in report.items():
        theirs, speedup = row["torchjd_ms"], row["speedup"]
        known = f"{theirs:>12.2f}{speedup:>9.1f}" if theirs is not None else f"{'-':>12}{'-':>9}"
        mark = "" if row["converged"] else "  not converged"
        print(f"{name:<14}{row['ms']:>9.2f}{known}{row['residual']:>11.1e}{mark}")


def main() -> None:
    """Measure, print and, if asked, write JSON: ``{"threads", "solvers": {"10": {method: …}, "50": …}}``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few repeats: seconds instead of a minute")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (1: problems this small only wait)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", message="You are solving a parameterized problem")
    report: dict[str, object] = {"torch": torch.__version__, "threads": args.threads}
    tables: dict[str, Report] = {}
    for m in (10, 50):
        tables[str(m)] = solvers(m, args.quick)
        show(f"one solve, {m} tasks, float32 Gramian on the CPU", tables[str(m)])
    report["solvers"] = tables
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
