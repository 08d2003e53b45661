"""Settings of every test, in one process or in several of pytest-xdist's.

pytest-xdist's controller reads this file too but runs no test: what is heavy to import is imported in fixtures.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Tiny tensors gain nothing from a second thread, and on a busy machine the threads mostly wait for each other. This
# holds for the programs that tests start; below it holds for the tests themselves.
os.environ["OMP_NUM_THREADS"] = "1"

# Two runs of the tests give the same verdict: examples follow from the test's code, and none are remembered.
# HYPOTHESIS_PROFILE=explore or --hypothesis-profile=explore draws new ones and remembers those that fail.
settings.register_profile("repeatable", derandomize=True, database=None)
settings.register_profile("explore", derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def compile_in_turn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Makes the processes that run the tests compile in turn, so that each finds what another has compiled.

    With an empty cache they would do the same work twice, and numba's index of what it keeps of a function is not made
    for several writers. numba holds its own lock from its look into the cache until the result is kept there.
    """
    from numba.core import event

    thread_lock, held = threading.RLock(), []

    class FileLock(event.Listener):
        def on_start(self, event: event.Event) -> None:
            thread_lock.acquire()
            if not held:
                fcntl.flock(file, fcntl.LOCK_EX)
            held.append(event)

        def on_end(self, event: event.Event) -> None:
            held.pop()
            if not held:
                fcntl.flock(file, fcntl.LOCK_UN)
            thread_lock.release()

    # Each process has a folder of its own in the one that all share.
    with (tmp_path_factory.getbasetemp().parent / "compile.lock").open("w") as file:
        lock = FileLock()
        event.register("numba:compiler_lock", lock)
        yield
        event.unregister("numba:compiler_lock", lock)
