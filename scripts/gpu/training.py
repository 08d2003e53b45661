"""A real short training of each algorithm through the command's own trainer, with its evaluations and records."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mtrl.records.results import success_mean
from mtrl.settings.presets import resolve
from mtrl.trainer import train
from scripts.gpu.report import Section

STEPS = {
    "mtsac": {"quick": 400, "whole": 20_000},
    "mtppo": {"quick": 2_000, "whole": 200_000},
}
OWN: dict[str, dict[str, Any]] = {
    "mtsac": {"agent.learning_starts": 20},
    "mtppo": {"agent.rollout_per_task": 200, "envs_per_task": 4},
}


def trainings(section: Section, device: torch.device) -> None:
    """Each algorithm on mt10, as long as its half of the time allows by a short first run."""
    for index, method in enumerate(STEPS):
        seconds = section.left / (len(STEPS) - index)
        section.attempt(f"{method} short", partial(_train, method, device, "quick"))
        found = section.figures[f"{method} short"]
        speed = found.get("env_steps_per_second")
        if speed and STEPS[method]["whole"] / speed < 0.6 * seconds:
            section.attempt(f"{method} whole", partial(_train, method, device, "whole"))


def _train(method: str, device: torch.device, length: str) -> dict[str, Any]:
    steps = STEPS[method][length]
    with tempfile.TemporaryDirectory() as folder:
        values = {
            "suite": "mt10",
            "method": method,
            "device": str(device),
            "run_dir": str(Path(folder) / "run"),
            "total_env_steps": steps,
            "eval.every": steps,
            "eval.episodes_per_task": 1 if length == "quick" else 5,
            "eval.envs_per_task": 1 if length == "quick" else 5,
            "checkpoint_every": steps,
            "log_every": steps,
            "tensorboard": False,
        }
        begun = time.perf_counter()
        record = train(resolve(values | OWN[method]))
        seconds = time.perf_counter() - begun
    return {
        "status": record["status"],
        "env_steps": record["budget"]["env_steps"],
        "gradient_steps": record["budget"]["gradient_steps"],
        "success": success_mean(record["evaluations"][-1]["per_task"]),
        "precision": record["provenance"]["precision"],
        "seconds": seconds,
        "env_steps_per_second": steps / seconds,
    }
