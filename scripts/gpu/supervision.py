"""Sections run in a process of their own, which may crash, hang or lose its GPU without ending the report.

A GPU that met an illegal access answers no further call of the process that made it, and a call that hangs in a library
hears no alarm. Then another process goes on with the next section.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from scripts.gpu.report import Report

STARTUP = 120.0  # seconds until a worker's first section begins, and how long
GRACE = 15.0  # a section may outlast its time before its process is ended
LOST = 3  # exit status of a process whose device no longer answers


def supervise(
    report: Report, names: Sequence[str], command: Callable[[list[str], float], list[str]]
) -> None:
    """Run the sections ``names`` in worker processes, one after the other, until all have begun or time is over.

    Exits where a worker ends before its first section begins.

    Args:
        report: its file is what workers write.
        command: of a worker for these sections, until then by ``time.monotonic``.
    """
    # Without this a worker would outlive a run that a time limit ends.
    before = signal.signal(signal.SIGTERM, _end)
    try:
        left = list(names)
        while left and report.left > 1:
            why = _run(command(left, report.end), report)
            report.read()
            report.end_section(why)
            after = [name for name in left if name not in report.figures["sections"]]
            if after == left:
                report.figures["status"] = f"failed: no section could begin, {why}"
                report.save()
                raise SystemExit(report.figures["status"])
            left = after
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(command: list[str], report: Report) -> str:
    """Run a worker to its end; returns what happened."""
    # A session of its own, so that what the worker started ends with it.
    worker = subprocess.Popen([sys.executable, *command], start_new_session=True)
    try:
        return _watch(worker, report)
    finally:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()


def _watch(worker: subprocess.Popen[bytes], report: Report) -> str:
    """Wait for the worker's end, or end it where it hangs; returns what happened."""
    name, due = None, time.monotonic() + STARTUP
    while worker.poll() is None:
        time.sleep(0.2)
        report.read()
        now = time.monotonic()
        if report.under_way != name:
            name, due = report.under_way, now + GRACE
            if name is not None:
                due += report.figures["sections"][name]["may_take_seconds"]
        if now > due:
            return f"it hung for {GRACE:.0f} s after its time, so its process was ended"
    return f"its process ended with status {worker.returncode}"


def _end(signum: int, frame: object) -> None:
    raise SystemExit(128 + signum)
