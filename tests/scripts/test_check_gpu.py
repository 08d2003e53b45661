"""The script that checks a GPU: its report survives whatever happens, and all of it runs on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from scripts.check_gpu import SECTIONS
from scripts.gpu import supervision
from scripts.gpu.agents import sac_call
from scripts.gpu.contracts import _recorded, _resumed
from scripts.gpu.device import find_device
from scripts.gpu.report import Report, Section
from scripts.gpu.supervision import supervise
from scripts.gpu.timing import rate
from scripts.gpu.updates import flop, sac

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


def _read(path: Path) -> dict[str, dict[str, object]]:
    sections: dict[str, dict[str, object]] = json.loads(path.read_text())["sections"]
    return sections


def test_the_script_runs_on_a_cpu_within_its_minutes(tmp_path: Path) -> None:
    path = tmp_path / "cpu.json"
    subprocess.run(
        [
            sys.executable,
            "scripts/check_gpu.py",
            "--device=cpu",
            "--minutes=0.05",
            f"--json={path}",
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        timeout=600,
    )
    assert json.loads(path.read_text())["status"] == "finished"
    sections = _read(path)
    assert list(sections) == list(SECTIONS)
    assert sections["machine"]["device"] == "cpu"
    assert not [name for name, found in sections.items() if "error" in found]


def test_a_section_that_fails_or_lasts_too_long_does_not_end_the_others(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    report = Report(path, 60)

    def fails(section: Section) -> None:
        section.note("before", 1)
        section.attempt("inner", lambda: 1 / 0)
        raise ValueError("no such kernel")

    def lasts(section: Section) -> None:
        section.note("before", 2)
        section.attempt("sleep", lambda: time.sleep(30))

    report.run("fails", fails, 0.5)
    assert json.loads(path.read_text())["status"] == "running"
    report.run("lasts", lasts, 0.0)
    report.run("works", lambda section: section.note("x", section.left > 0), 1.0)
    report.finish()
    found = _read(path)
    assert (
        found["fails"]["before"] == 1
        and found["fails"]["error"] == "ValueError: no such kernel"
    )
    assert found["fails"]["inner"] == {"error": "ZeroDivisionError: division by zero"}
    assert found["lasts"]["before"] == 2
    assert found["lasts"]["cut_off"] == "after 1 s, in 'sleep'"
    assert found["works"]["x"] is True
    assert [each.name for each in tmp_path.iterdir()] == ["report.json"]


WORKER = """
import os, signal, sys, time
from pathlib import Path
from scripts.gpu.report import Report

def crashes(section):
    section.note("before", 1)
    os._exit(9)

def hangs(section):
    # A call into a library that no alarm interrupts.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    section.note("before", 2)
    time.sleep(60)

def works(section):
    section.note("x", 3)

report = Report(Path(sys.argv[1]), 60)
for name in sys.argv[2:]:
    report.run(name, globals()[name], 0.0)
"""


def _watched(path: Path, names: list[str]) -> None:
    report = Report(path, 60)
    supervise(report, names, lambda left, until: ["-c", WORKER, str(path), *left])
    report.finish()


def test_a_section_that_takes_its_process_with_it_does_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "GRACE", 0.3)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    path = tmp_path / "report.json"
    _watched(path, ["crashes", "hangs", "works"])
    found = _read(path)
    assert found["crashes"]["before"] == 1
    assert found["crashes"]["error"] == "its process ended with status 9"
    assert found["hangs"]["before"] == 2 and "it hung" in str(found["hangs"]["error"])
    assert found["works"]["x"] == 3 and "error" not in found["works"]
    assert json.loads(path.read_text())["status"] == "finished"


def test_workers_that_cannot_begin_end_the_run(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with pytest.raises(SystemExit, match="no section could begin"):
        supervise(Report(path, 60), ["any"], lambda left, until: ["-c", "raise SystemExit(4)"])
    assert "status 4" in json.loads(path.read_text())["status"]


def test_contracts_hold_on_the_cpu() -> None:
    assert _recorded(CPU, "pcgrad")["same_bits"]
    assert _resumed("mtsac", CPU) == {"same_bits": True, "difference": None}


def test_updates_of_one_seed_and_of_several_are_timed() -> None:
    for seeds in (1, 2):
        found = rate(sac_call(CPU, seeds, 40, width=16), CPU, 0.0)
        assert found["calls"] == 1 and found["per_second"] > 0


def test_sizes_that_would_not_end_are_skipped() -> None:
    assert flop(400, 1_280, 10) == 10 * flop(400, 1_280, 1)
    figures: dict[str, object] = {}
    # The first update alone outlasts what is left, so all that follow are skipped.
    sac(Section(figures, lambda: None, time.monotonic() + 0.01), CPU)
    skipped = [
        found for found in figures.values() if isinstance(found, dict) and "skipped" in found
    ]
    assert len(figures) == 8 and len(skipped) == 7


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto") == CPU and find_device("cpu") == CPU
    with pytest.raises(SystemExit, match="device: 'cuda' is not there"):
        find_device("cuda")
