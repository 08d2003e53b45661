"""Updates a second of MTSAC on mt10: eager, recorded and compiled, and gradient methods over plain averaging."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from scripts.gpu.agents import sac_call
from scripts.gpu.report import Section
from scripts.gpu.timing import memory, rate

ROOT = Path(__file__).resolve().parents[2]
BATCHES, WIDTHS, SEEDS = (1_280, 12_800), (400, 4_096), (1, 10)
METHODS = ("mean", "pcgrad", "cagrad", "upgrad", "fairgrad")


def flop(width: int, batch: int, seeds: int) -> float:
    """Operations of an update, roughly: actor and twin critics of three layers, forward and backward."""
    return 2.0 * 3 * width**2 * batch * 15 * seeds


def sac(section: Section, device: torch.device) -> None:
    """Every size, eager and recorded."""
    cells = sorted(product(WIDTHS, BATCHES, SEEDS), key=lambda cell: flop(*cell))
    tries = [(cell, way) for cell in cells for way in _ways(device)]
    per_flop = 0.0
    for index, ((width, batch, seeds), way) in enumerate(tries):
        key = f"{way} width {width} batch {batch} seeds {seeds}"
        seconds = section.left / (len(tries) - index)
        # An update that cannot end in its time would take that of the others.
        expected = per_flop * flop(width, batch, seeds)
        if 2 * expected > seconds:
            why = f"an update may take {expected:.1f} s, and {seconds:.1f} s are left for it"
            section.note(key, {"skipped": why})
            continue
        found = section.attempt(
            key, partial(_rate, device, seeds, batch, way, 0.5 * seconds, width=width)
        )
        if found is not None:
            per_flop = 1 / found["per_second"] / flop(width, batch, seeds)


def compiled(section: Section, device: torch.device) -> None:
    """The plain update under ``torch.compile``, in a process of its own: compilers ignore an alarm."""
    code = (
        "import json, torch\n"
        "from scripts.gpu.agents import sac_call\n"
        "from scripts.gpu.timing import rate\n"
        f"device = torch.device({str(device)!r})\n"
        "print(json.dumps(rate(sac_call(device, 1, 1_280, 'compile'), device, 3.0)))\n"
    )

    def measure() -> Any:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=max(1.0, section.left - 1),
        )
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        return json.loads(done.stdout.splitlines()[-1])

    section.attempt("width 400 batch 1280 seeds 1", measure)


def methods(section: Section, device: torch.device) -> None:
    """Gradient methods of actor and critics over plain averaging, eager and recorded."""
    cells = list(product(_ways(device), METHODS))
    plain: dict[str, float] = {}
    for index, (way, method) in enumerate(cells):
        seconds = 0.4 * section.left / (len(cells) - index)
        key = f"{way} {method}"
        found = section.attempt(
            key, partial(_rate, device, 1, 1_280, way, seconds, aggregator=method)
        )
        if found is None:
            continue
        if method == "mean":
            plain[way] = found["per_second"]
        elif way in plain:
            section.note(f"{key} over mean", plain[way] / found["per_second"])


def _ways(device: torch.device) -> list[str]:
    return ["eager", "graph"] if device.type == "cuda" else ["eager"]


def _rate(
    device: torch.device, seeds: int, batch: int, way: str, seconds: float, **settings: Any
) -> dict[str, float]:
    """Updates a second, and the peak memory of making and doing them."""
    found = rate(sac_call(device, seeds, batch, way, **settings), device, seconds)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return found | memory(device)
