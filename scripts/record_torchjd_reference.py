"""Record torchjd's answers for the methods that need solver packages, as the tests' independent reference.

Needs ``pip install "torchjd[full]"`` (quadprog, cvxpy), which the tests themselves do not:

    python scripts/record_torchjd_reference.py tests/agents/aggregators/torchjd_reference.json
"""

import argparse
import json
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.agents.aggregators.cases import KINDS, jacobian  # noqa: E402

SIZES = ((2, 3), (3, 10), (5, 4), (10, 30), (10, 8), (20, 100), (50, 300))


def record() -> list[dict[str, object]]:
    """Weights of every case and method; Nash-MTL clips its update to norm 1."""
    from torchjd.aggregation import CAGradWeighting, DualProjWeighting, NashMTL, UPGradWeighting
    from torchjd.linalg import QuadprogProjector

    projector = QuadprogProjector(norm_eps=1e-200, reg_eps=1e-4)
    rows_out: list[dict[str, object]] = []
    for seed, (m, params) in enumerate(SIZES):
        for kind in KINDS:
            rows = jacobian(seed, m, params, kind)
            gramian = rows @ rows.T
            methods = {
                "upgrad": lambda g=gramian: UPGradWeighting(projector=projector)(g),
                "dualproj": lambda g=gramian: DualProjWeighting(projector=projector)(g),
            }
            if kind != "zero-row":
                # With a zero gradient torchjd's CAGrad makes no update at all; here that task takes no part.
                methods["cagrad"] = lambda g=gramian: CAGradWeighting(c=0.5)(g)
            if kind == "full" and m <= 10 and params > m:
                methods["nash-mtl"] = lambda r=rows, m=m: NashMTL(
                    n_tasks=m, optim_niter=200
                ).weighting(r)
            for method, solve in methods.items():
                weights = [float(f"{w:.10g}") for w in solve().tolist()]
                case = {"method": method, "seed": seed, "m": m, "params": params, "kind": kind}
                rows_out.append(case | {"weights": weights})
    return rows_out


def main() -> None:
    """Write the recorded cases, one a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = ",\n".join(json.dumps(case) for case in record())
    args.file.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
