"""A run's folder: its files, the lock that keeps it to one process, and writes that are whole or absent."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from mtrl.errors import RunFolderError, WriteError


class RunFolder:
    """``config.yaml``, ``result.json``, ``checkpoints/`` and ``tensorboard/`` of one run, held by one process.

    Use as a context manager: entering takes the lock, leaving gives it back and removes a folder that
    never became a run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.result = path / "result.json"
        self.checkpoints = path / "checkpoints"
        self.tensorboard = path / "tensorboard"
        self._lock_file = path / ".lock"
        self._lock: int | None = None
        self._made: list[Path] = []

    @property
    def is_run(self) -> bool:
        return self.config.is_file()

    def __enter__(self) -> Self:
        self._made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        foreign = [entry.name for entry in self.path.iterdir() if entry != self._lock_file and not is_temporary(entry)]
        if foreign and not self.is_run:
            raise RunFolderError(f"run_dir: {self.path} is not empty and holds no run (no config.yaml)")
        with writing(self._lock_file):
            self._lock = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            # A POSIX lock: unlike flock, worker processes forked later do not inherit it and cannot outlive us with it.
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.pread(self._lock, 32, 0).decode(errors="replace").strip()
            self._release()
            raise RunFolderError(f"run_dir: {self.path} is in use by process {owner or 'unknown'}") from None
        with writing(self._lock_file):
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, str(os.getpid()).encode(), 0)
        self._clean()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.is_run:
            with contextlib.suppress(OSError):
                self._lock_file.unlink()
                for folder in self._made:
                    folder.rmdir()
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _clean(self) -> None:
        """Remove what a killed process left half-written."""
        for folder in (self.path, self.checkpoints):
            for entry in folder.iterdir() if folder.is_dir() else ():
                if is_temporary(entry):
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def is_temporary(path: Path) -> bool:
    """Whether ``path`` is an unfinished file or folder of ours."""
    return path.name.startswith(".tmp-")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError while writing ``path`` into one sentence."""
    try:
        yield
    except OSError as error:
        raise WriteError(f"{path}: cannot be written ({error.strerror or error})") from error


def write_text(path: Path, text: str) -> None:
    """Write a file so that, whatever happens, ``path`` holds either the old text or the new.

    Raises:
        WriteError: the disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(f".tmp-{path.name}")
    with writing(path):
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
