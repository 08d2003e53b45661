"""Check and measure the suite on one device, and write what is found as it is found.

    python scripts/check_gpu.py --json gpu.json
    python scripts/check_gpu.py --device cpu --minutes 2 --json cpu.json

Nothing here ran on a GPU before, so every section stands alone: one that fails is recorded with its error, and one that
outlasts its minutes is cut off. Where a section takes its process or the GPU with it, the next one begins in another
process. A run that ends early leaves a whole file.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.gpu.report import Report, Section  # noqa: E402
from scripts.gpu.supervision import LOST, supervise  # noqa: E402

# Shares of the time that is left when a section begins. What needs no simulation comes first, since the engine may have
# to be compiled, and the compiler of PyTorch last, since nobody knows how long it takes.
# The process that watches imports neither PyTorch nor what is measured.
SECTIONS = {
    "machine": ("scripts.gpu.device:machine", 0.1),
    "mtsac updates": ("scripts.gpu.updates:sac", 0.25),
    "gradient methods": ("scripts.gpu.updates:methods", 0.2),
    "where the time goes": ("scripts.gpu.profiling:profiles", 0.1),
    "contracts of updates": ("scripts.gpu.contracts:of_updates", 0.15),
    "engine": ("scripts.gpu.collecting:engine", 0.4),
    "contracts of runs": ("scripts.gpu.contracts:of_runs", 0.25),
    "mtppo end to end": ("scripts.gpu.collecting:ppo", 0.5),
    "training": ("scripts.gpu.training:trainings", 0.6),
    "torch.compile": ("scripts.gpu.updates:compiled", 1.0),
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="for all sections together")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--json", type=Path, required=True, help="the file to write")
    parser.add_argument(
        "--only", nargs="*", choices=list(SECTIONS), help="these sections alone"
    )
    # Of a worker: when its time is over, on the clock that processes share.
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    return parser.parse_args()


def work(report: Report, names: list[str], device_name: str) -> None:
    """Run sections in this process, as long as its device answers."""
    from scripts.gpu.device import answers, find_device

    device = find_device(device_name)
    for name in names:
        place, share = SECTIONS[name]
        report.run(name, partial(measure, place, device), share)
        if not answers(device):
            raise SystemExit(LOST)


def measure(place: str, device: torch.device, section: Section) -> None:
    """Import the function at ``place``, ``module:name``, and let it fill a section."""
    module, name = place.split(":")
    getattr(importlib.import_module(module), name)(section, device)


def main() -> None:
    args = parse()
    names = [name for name in SECTIONS if args.only is None or name in args.only]
    if args.until is not None:
        work(Report(args.json, args.until - time.monotonic()), names, args.device)
        return
    args.json.unlink(missing_ok=True)
    report = Report(args.json, 60 * args.minutes)

    def command(left: list[str], until: float) -> list[str]:
        given = [f"--device={args.device}", f"--json={args.json}", f"--until={until}"]
        return [__file__, *given, "--only", *left]

    supervise(report, names, command)
    report.finish()
    failed = [name for name, found in report.figures["sections"].items() if "error" in found]
    print(f"written to {args.json}" + (f"; failed: {', '.join(failed)}" if failed else ""))


if __name__ == "__main__":
    main()
