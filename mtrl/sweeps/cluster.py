"""Runs as tasks of a Ray cluster whose nodes share the results folder. Ray is the optional extra ``ray``."""

from __future__ import annotations

import importlib.util
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtrl.errors import ConfigError, WorkbenchError
from mtrl.extras import install_command
from mtrl.sweeps import local
from mtrl.sweeps.groups import Group
from mtrl.sweeps.local import start_training
from mtrl.sweeps.scheduler import LOST

CONNECT_S = 5.0
STOP_S = 600.0


class RayExecutor:
    """Starts each group of runs as a Ray task, which runs the same training process that a local sweep would.

    A task whose node or worker goes away counts as lost, not failed: the scheduler submits the run again, and it
    continues from its last checkpoint on the shared path, wherever Ray places it.

    Args:
        address: ``host:port`` of the cluster's head, or ``auto`` for the one that this machine belongs to.
        jobs: runs at a time; None is as many as the cluster's CPUs carry.
        cpus: CPUs, and threads, of each run.

    Raises:
        ConfigError: Ray is not installed.
        WorkbenchError: no cluster answers at the address.
    """

    def __init__(self, address: str, jobs: int | None, cpus: int) -> None:
        if importlib.util.find_spec("ray") is None:
            raise ConfigError(f"ray: is not installed; run: {install_command('ray')}")
        _connect(address)
        import ray

        self._ray, self._cpus = ray, cpus
        self._task = ray.remote(num_cpus=cpus, max_retries=0)(train_here)
        self.jobs = jobs or max(1, int(ray.cluster_resources().get("CPU", 1)) // cpus)

    def start(self, group: Group) -> Any:
        """Submit runs that share a process; Ray starts it when some node has the CPUs for it."""
        log, here = group.log.absolute(), Path.cwd()
        return self._task.remote(
            local.TRAIN, group.arguments(here), str(log), self._cpus, str(here)
        )

    def poll(self, job: Any) -> int | None:
        """The exit status of a run that is over, ``LOST`` if its worker or node went away, else None."""
        if not self._ray.wait([job], timeout=0)[0]:
            return None
        try:
            return int(self._ray.get(job))
        except self._ray.exceptions.RayError:
            return LOST

    def stop(self, jobs: Sequence[Any]) -> None:
        """Ask runs to save and stop, and wait until they have."""
        for job in jobs:
            self._ray.cancel(job)
        if jobs:
            self._ray.wait(list(jobs), num_returns=len(jobs), timeout=STOP_S)

    def kill(self, jobs: Sequence[Any]) -> None:
        """End runs at once; each continues from its last checkpoint later."""
        for job in jobs:
            self._ray.cancel(job, force=True)

    def close(self) -> None:
        """Leave the cluster."""
        self._ray.shutdown()


def train_here(
    train: Sequence[str], arguments: Sequence[str], log: str, threads: int, folder: str
) -> int:
    """The body of a task: a training process on this node; its exit status. A cancelled task lets it save first.

    Args:
        folder: the sweep's own, from which its relative paths count; not needed where a node lacks it.
    """
    process = start_training(
        arguments, Path(log), threads, train, folder if Path(folder).is_dir() else None
    )
    try:
        return process.wait()
    except BaseException:  # Ray cancels with KeyboardInterrupt
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise


def _connect(address: str) -> None:
    """Join the cluster. Ray itself would try for a minute where nothing listens, so that is looked up first."""
    host, colon, port = address.rpartition(":")
    if address != "auto":
        if not colon or not port.isdecimal():
            raise ConfigError(f"ray: {address!r} is no address; write host:port, or auto")
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
        except (OSError, OverflowError) as error:
            raise WorkbenchError(f"ray: no cluster answers at {address} ({error})") from None
    import ray

    try:
        ray.init(
            address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise WorkbenchError(
            f"ray: no cluster can be joined at {address} ({str(error).splitlines()[0]})"
        ) from None
