"""Runs the real commands with the fake environment and agent: ``python -m tests.helpers.workbench train SUITE ...``."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from mtrl import envs
from mtrl.settings.algorithms import ALGORITHMS
from mtrl.sweeps import local
from tests.helpers import fakes

METHOD = str(Path(__file__).parent / "fake.yaml")


def install() -> None:
    """Put the fakes in place of the real suites, in this process."""
    fakes.PACE = float(os.environ.get("FAKE_PACE", "0"))
    ALGORITHMS["fake"] = fakes.ALGORITHM
    for name in ("make_vec", "get_suite", "suite_ids"):
        setattr(envs, name, getattr(fakes, name))
    local.TRAIN = (sys.executable, "-m", "tests.helpers.workbench", "train")


if __name__ == "__main__":
    install()
    sys.exit(importlib.import_module(f"mtrl.{sys.argv[1]}").main(sys.argv[2:]))
