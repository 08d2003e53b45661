"""A short sweep of the fake agent, and the command that runs it in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.runs import without_clock
from tests.helpers.workbench import METHOD

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = {
    "checkpoint_every": 90, "log_every": 60, "eval.every": 150, "eval.episodes_per_task": 4, "eval.envs_per_task": 2,
    "tensorboard": False, "device": "cpu",
}  # fmt: skip
ROW = "fake-eval.episodes-per-task-4"
"""The folder's name of the fake method under these settings."""
MakeSpec = Callable[..., Path]


@pytest.fixture
def make_spec(tmp_path: Path) -> MakeSpec:
    """Writes a spec of short runs into a file; keywords replace its keys."""

    def make(name: str = "sweep", **changes: Any) -> Path:
        values = {
            "suites": ["mt10:fake", "mt1:fake-inexact"],
            "methods": [METHOD],
            "seeds": 1,
            "total_env_steps": {"mt10:fake": 900, "mt1:fake-inexact": 300},
            "settings": SETTINGS,
            "results": str(tmp_path / f"results-{name}"),
        }
        values |= changes
        if "suites" in changes and "total_env_steps" not in changes:
            values["total_env_steps"] = 900
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return make


def start(*arguments: str, pace: float = 0.0) -> subprocess.Popen[str]:
    """``leaderboard run`` in a process of its own, with runs slowed down to ``pace`` seconds per vector step."""
    command = [
        sys.executable,
        "-m",
        "tests.helpers.workbench",
        "leaderboard.__main__",
        "run",
        *arguments,
    ]
    environment = {**os.environ, "FAKE_PACE": str(pace), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def results_of(folder: Path) -> dict[str, Any]:
    """Every result file of a sweep, without wall-clock times."""
    records = {}
    for path in sorted(folder.glob("*/*/*/seed-*.json")):
        record = json.loads(path.read_text())
        records[str(path.relative_to(folder))] = without_clock(record)
    return records
