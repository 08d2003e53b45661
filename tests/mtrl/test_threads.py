"""Threads that wait go to sleep soon: what the commands set, and that they set it before libgomp reads it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mtrl.threads import spin_briefly

SPIED = """
import importlib.abc, os, runpy, sys

class Spy(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torch":
            print("torch sees", os.environ.get("GOMP_SPINCOUNT"), flush=True)

sys.meta_path.insert(0, Spy())
command, *sys.argv[1:] = sys.argv[1:]
runpy.run_module(command, run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"GOMP_SPINCOUNT": "1000"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
    ],
)
def test_the_user_has_the_last_word(given: dict[str, str], expected: dict[str, str]) -> None:
    spin_briefly(given)
    assert given == expected


def test_by_default_it_is_about_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    spin_briefly()
    assert os.environ["GOMP_SPINCOUNT"] == "1000"


@pytest.mark.parametrize(
    "command",
    [
        "mtrl.evaluate nowhere",
        "mtrl.train mt10 --help",
    ],
)
def test_commands_settle_it_before_torch_is_imported(command: str) -> None:
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    result = subprocess.run(
        [sys.executable, "-c", SPIED, *command.split()],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.startswith("torch sees 1000\n"), result.stdout + result.stderr
