"""A run's folder: its files, the lock that keeps it to one process, and writes that are whole or absent."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from mtrl.errors import RunFolderError, WriteError

# Process and folder. The kernel's locks do not keep apart the threads of one process.
_held: set[tuple[int, Path]] = set()
_guard = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Contents:
    """The files of a folder that a start may change, as they were before.

    Attributes:
        files: bytes of ``config.yaml`` and ``result.json``, None where there is no such file.
        events: paths below ``tensorboard/``, and the folder itself.
    """

    files: dict[Path, bytes | None]
    events: frozenset[Path]


class RunFolder:
    """``config.yaml``, ``result.json``, ``checkpoints/`` and ``tensorboard/`` of one run, held by one process.

    Use as a context manager: entering takes the lock, leaving gives it back and removes a folder that
    never became a run. ``config.yaml`` makes a folder a run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.result = path / "result.json"
        self.checkpoints = path / "checkpoints"
        self.tensorboard = path / "tensorboard"
        self._lock_file = path / ".lock"
        self._lock: int | None = None
        self._name: tuple[int, Path] | None = None
        self._made: list[Path] = []

    @property
    def is_run(self) -> bool:
        return self.config.is_file()

    def __enter__(self) -> Self:
        self._made = [
            folder for folder in (self.path, *self.path.parents) if not folder.exists()
        ]
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        foreign = [
            entry.name
            for entry in self.path.iterdir()
            if entry != self._lock_file and not is_temporary(entry)
        ]
        if foreign and not self.is_run:
            raise RunFolderError(
                f"run_dir: {self.path} is not empty and holds no run (no config.yaml)"
            )
        try:
            self._acquire()
            self._clean()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.is_run:
            with contextlib.suppress(OSError):
                self._lock_file.unlink()
                for folder in self._made:
                    folder.rmdir()
        self._release()

    def contents(self) -> Contents:
        """What a start may change, for ``restore``."""
        files = {
            path: path.read_bytes() if path.is_file() else None
            for path in (self.config, self.result)
        }
        return Contents(files, frozenset(self._events()))

    def restore(self, before: Contents) -> None:
        """Undo every write since ``before`` was read, as far as the disk allows."""
        for path, content in before.files.items():
            with contextlib.suppress(OSError, WriteError):
                if content is None:
                    path.unlink(missing_ok=True)
                elif not path.is_file() or path.read_bytes() != content:
                    write_bytes(path, content)
        for path in reversed(self._events()):
            if path not in before.events:
                with contextlib.suppress(OSError):
                    path.rmdir() if path.is_dir() else path.unlink()

    def _events(self) -> list[Path]:
        """The folder ``tensorboard/`` and its files, in this order; empty if there is none."""
        return (
            [self.tensorboard, *sorted(self.tensorboard.rglob("*"))]
            if self.tensorboard.exists()
            else []
        )

    def _acquire(self) -> None:
        name = (os.getpid(), self.path.resolve())
        with _guard:
            # Before the file is opened, because closing it would release all locks of this process on it.
            if name in _held:
                raise RunFolderError(
                    f"run_dir: {self.path} is in use by another training of this process"
                )
            _held.add(name)
            self._name = name
        with writing(self._lock_file):
            self._lock = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            # A POSIX lock: unlike flock, worker processes forked later do not inherit it and cannot outlive us with it.
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.pread(self._lock, 32, 0).decode(errors="replace").strip()
            raise RunFolderError(
                f"run_dir: {self.path} is in use by process {owner or 'unknown'}"
            ) from None
        with writing(self._lock_file):
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, str(os.getpid()).encode(), 0)

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if self._name is not None:
            _held.discard(self._name)
            self._name = None

    def _clean(self) -> None:
        """Remove the unfinished files of a killed process."""
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
    """``write_bytes`` of a text in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that, whatever happens, ``path`` holds either the old content or the new.

    Raises:
        WriteError: the disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(f".tmp-{path.name}")
    with writing(path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
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
