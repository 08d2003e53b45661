"""Worker processes that step environments through shared memory.

Workers are fresh interpreters that import nothing of the calling program, so scripts need no main guard, notebooks
work, and no worker carries the trainer's libraries. One byte is a command, one line the reply. A worker ends when its
socket closes, hence also when the parent is killed.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mtrl.envs.errors import SuiteError
from mtrl.envs.metaworld.arrays import Arrays
from mtrl.envs.specs import Suite

RESET, STEP, RENDER = b"r", b"s", b"f"
_SINGLE_THREADED = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}


class Workers:
    """Processes that together hold the environments of a suite, each a contiguous share.

    Attributes:
        arrays: shared with the workers.
    """

    def __init__(
        self, suite: Suite, envs_per_task: int, num_workers: int, render: bool
    ) -> None:
        tasks = [task.env_id for task in suite.tasks for _ in range(envs_per_task)]
        descriptor = _shared_memory(Arrays.size(len(tasks), render))
        self.arrays = Arrays(len(tasks), render, memoryview(mmap.mmap(descriptor, 0)))
        self._workers: list[_Worker] = []
        self._finalizer = weakref.finalize(self, _end, self._workers, os.getpid())
        try:
            for rows in np.array_split(np.arange(len(tasks)), min(num_workers, len(tasks))):
                first, end = int(rows[0]), int(rows[-1]) + 1
                order = {
                    "tasks": tasks[first:end],
                    "reward_version": suite.reward_version,
                    "num_envs": len(tasks),
                    "first": first,
                    "render": render,
                }
                self._workers.append(_Worker(order, descriptor))
        finally:
            os.close(descriptor)

    def send(self, command: bytes) -> None:
        """Has every worker begin a command; raises as ``wait`` does."""
        with self._ending_all_on_failure():
            for worker in self._workers:
                worker.send(command)

    def wait(self) -> None:
        """Waits until every worker has answered.

        Raises:
            RuntimeError: a worker failed or died; all are ended.
            SuiteError: a worker cannot do what its settings ask for, such as rendering.
        """
        with self._ending_all_on_failure():
            for worker in self._workers:
                worker.wait()

    def close(self) -> None:
        """Ends the processes and waits for them; harmless when repeated."""
        self._finalizer()

    @contextmanager
    def _ending_all_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            # Also KeyboardInterrupt: a half-read answer would shift all later ones.
            self.close()
            raise


class _Worker:
    def __init__(self, order: dict, descriptor: int) -> None:
        self.name = (
            f"environments {order['first']} to {order['first'] + len(order['tasks']) - 1}"
        )
        ours, theirs = socket.socketpair()
        with theirs:
            order |= {"socket": theirs.fileno(), "memory": descriptor}
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mtrl.envs.metaworld.worker", json.dumps(order)],
                pass_fds=(theirs.fileno(), descriptor),
                stdin=subprocess.DEVNULL,
                env=os.environ | _SINGLE_THREADED | {"PYTHONPATH": _import_path()},
                process_group=0,  # Ctrl-C goes to the parent alone
            )
        self.socket = ours
        self._replies = ours.makefile("r", encoding="utf-8")

    def send(self, command: bytes) -> None:
        try:
            self.socket.sendall(command)
        except OSError:
            self.fail("")

    def wait(self) -> None:
        try:
            reply = self._replies.readline()
        except OSError:
            reply = ""
        if reply != "done\n":
            self.fail(reply)

    def fail(self, reply: str) -> None:
        if reply.startswith("SuiteError: "):
            raise SuiteError(reply.removeprefix("SuiteError: ").strip())
        if reply:
            raise RuntimeError(f"The worker of {self.name} failed: {reply.strip()}")
        code = self.process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        raise RuntimeError(
            f"The worker process of {self.name} died ({how}); its messages are above."
        )

    def close(self) -> None:
        self._replies.close()
        self.socket.close()


def _import_path() -> str:
    return os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)


def _shared_memory(size: int) -> int:
    """A descriptor of anonymous shared memory, which vanishes with its last user."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("environments")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


def _end(workers: list[_Worker], owner: int) -> None:
    if os.getpid() != owner:  # a fork of the program that made them
        return
    for worker in workers:
        worker.close()
    for worker in workers:
        try:
            worker.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
