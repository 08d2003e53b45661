"""Check and measure the suite on one device, and write what is found as it is found.

    python scripts/check_gpu.py --json gpu.json
    python scripts/check_gpu.py --device cpu --minutes 2 --json cpu.json

Nothing here ran on a GPU before, so every section stands alone: one that fails is recorded with its error, and one that
outlasts its minutes is cut off. Where a section takes its process or the GPU with it, the next one begins in another
process. A run that ends early leaves a whole file.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from mtrl.agents.optim.precision import trunk_dtype  # noqa: E402
from scripts.gpu.collecting import engine, ppo  # noqa: E402
from scripts.gpu.contracts import of_runs, of_updates  # noqa: E402
from scripts.gpu.profiling import profiles  # noqa: E402
from scripts.gpu.report import Report, Section  # noqa: E402
from scripts.gpu.supervision import LOST, supervise  # noqa: E402
from scripts.gpu.training import trainings  # noqa: E402
from scripts.gpu.updates import compiled, methods, sac  # noqa: E402


def machine(section: Section, device: torch.device) -> None:
    """What the figures were measured on."""
    section.note("device", str(device))
    section.note("cpu", f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    section.note("torch", torch.__version__)
    section.note("torch_threads", torch.get_num_threads())
    section.note("precision", str(trunk_dtype("auto", device)).removeprefix("torch."))
    if device.type == "cuda":
        about: Any = torch.cuda.get_device_properties(device)
        section.note("gpu", about.name)
        section.note("gpu_memory_gib", about.total_memory / 2**30)
        section.note("cuda", torch.version.cuda)


# Shares of the time that is left when a section begins. What needs no simulation comes first, since the engine may have
# to be compiled, and the compiler of PyTorch last, since nobody knows how long it takes.
SECTIONS: dict[str, tuple[Callable[..., None], float]] = {
    "machine": (machine, 0.1),
    "mtsac updates": (sac, 0.25),
    "gradient methods": (methods, 0.2),
    "where the time goes": (profiles, 0.1),
    "contracts of updates": (of_updates, 0.15),
    "engine": (engine, 0.4),
    "contracts of runs": (of_runs, 0.25),
    "mtppo end to end": (ppo, 0.5),
    "training": (trainings, 0.6),
    "torch.compile": (compiled, 1.0),
}


def find_device(name: str) -> torch.device:
    """``auto`` is a GPU if there is one. Exits with a sentence where the device is not there."""
    found = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if found else "cpu")
    if name == "cuda" and not found:
        raise SystemExit("device: 'cuda' is not there; PyTorch finds no GPU on this machine")
    return torch.device(name)


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
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def work(report: Report, names: list[str], device: torch.device) -> None:
    """Run sections in this process, as long as its device answers."""
    for name in names:
        section, share = SECTIONS[name]
        report.run(name, partial(section, device=device), share)
        if not answers(device):
            raise SystemExit(LOST)


def answers(device: torch.device) -> bool:
    """Whether the device still computes."""
    try:
        return torch.ones(2, device=device).sum().item() == 2
    except RuntimeError:
        return False


def main() -> None:
    args = parse()
    device = find_device(args.device)
    names = [name for name in SECTIONS if args.only is None or name in args.only]
    if args.worker:
        work(Report(args.json, 60 * args.minutes), names, device)
        return
    args.json.unlink(missing_ok=True)
    report = Report(args.json, 60 * args.minutes)

    def command(left: list[str], seconds: float) -> list[str]:
        given = [f"--device={device}", f"--json={args.json}", f"--minutes={seconds / 60}"]
        return [__file__, "--worker", *given, "--only", *left]

    supervise(report, names, command)
    report.finish()
    failed = [name for name, found in report.figures["sections"].items() if "error" in found]
    print(f"written to {args.json}" + (f"; failed: {', '.join(failed)}" if failed else ""))


if __name__ == "__main__":
    main()
