"""Locks that say which process works on what. The kernel releases them when their process dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from mtrl.training.run_folder import writing


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path`` inside the block; waits until it is free."""
    handle = _opened(path)
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def claimed(path: Path) -> int | None:
    """Take the lock file ``path`` until ``release``. Returns its handle, or None where another process has it."""
    handle = _opened(path)
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def release(handle: int) -> None:
    """Give back what ``claimed`` took."""
    os.close(handle)


def _opened(path: Path) -> int:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
