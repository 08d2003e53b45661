"""Runs, alone or in groups, as processes on this machine."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mtrl.sweeps.groups import Group
from mtrl.threads import spin_briefly
from mtrl.training.run_folder import writing

TRAIN: tuple[str, ...] = (sys.executable, "-m", "mtrl.train")
_PR_SET_PDEATHSIG = 1


class LocalExecutor:
    """Starts each group of runs as a process of its own, with its share of the machine's threads.

    Linux sends a run SIGTERM when the sweep dies, whatever kills it. The run then saves and stops. Ctrl-C reaches the
    sweep alone, which passes it on.

    Args:
        jobs: processes at a time.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._threads = max(1, available_cpus() // jobs)

    def start(self, group: Group) -> subprocess.Popen[bytes]:
        """Start or continue runs in one process."""
        return start_training(group.arguments(), group.log, self._threads)

    def poll(self, job: subprocess.Popen[bytes]) -> int | None:
        """The exit status of a run that is over (negative: the signal that killed it), else None."""
        return job.poll()

    def stop(self, jobs: Sequence[subprocess.Popen[bytes]]) -> None:
        """Ask runs to save and stop, and wait until they have."""
        for job in jobs:
            job.send_signal(signal.SIGTERM)
        for job in jobs:
            job.wait()

    def kill(self, jobs: Sequence[subprocess.Popen[bytes]]) -> None:
        """End runs at once; each continues from its last checkpoint later."""
        for job in jobs:
            job.kill()
            job.wait()

    def close(self) -> None:
        """Nothing is held between runs."""


def start_training(
    arguments: Sequence[str],
    log: Path,
    threads: int,
    train: Sequence[str] | None = None,
    folder: str | None = None,
) -> subprocess.Popen[bytes]:
    """A training process that appends its output to ``log`` and stops when this process dies.

    Args:
        train: the command in front of ``arguments``; ``TRAIN`` if None.
        folder: from which relative paths count; the present one if None.
    """
    environment = {
        **os.environ,
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)),
    }
    spin_briefly(environment)
    with writing(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            return subprocess.Popen(
                [*(train or TRAIN), *arguments],
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=stop_with_parent if sys.platform == "linux" else None,
            )


def stop_with_parent() -> None:
    """Ask Linux to send this process SIGTERM when its parent dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


def available_cpus() -> int:
    """CPUs that this process may use."""
    return (
        len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1
    )


def last_line(log: Path, before: int = 4096) -> str:
    """The last line that a run printed."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - before))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
