"""Arrays kept on disk because they take long to make: the benchmark's goals, models, states after reset.

Each file starts with the SHA-256 of the rest, which is numpy's own format without pickles. What is missing or damaged
is made again; where nothing can be written, nothing is kept.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_DIGEST_SIZE = 32


def cache_root() -> Path:
    """Folder for everything that can be made again: ``$MTRL_CACHE``, else ``mtrl`` in the user's cache folder."""
    if chosen := os.environ.get("MTRL_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mtrl"


@cache
def writable_folder(folder: Path) -> bool:
    """Whether files can be written to ``folder``, which is made if needed; warns once if not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        _warn_unwritable(cache_root(), error.strerror)
        return False
    return True


@cache
def _warn_unwritable(root: Path, reason: str) -> None:
    warnings.warn(
        f"Nothing can be kept in {root} ({reason}), so every start prepares and compiles again; "
        "set MTRL_CACHE to a folder that can be written.",
        RuntimeWarning,
        stacklevel=4,
    )


def digest(*parts: object) -> str:
    """A short name for a combination of strings, bytes and arrays."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            part = part.tobytes()
        data = part if isinstance(part, bytes) else str(part).encode()
        total.update(len(data).to_bytes(8, "little") + data)
    return total.hexdigest()[:16]


def load(name: str) -> dict[str, NDArray] | None:
    """The arrays saved under ``name``; None if there are none or the file is damaged."""
    path = cache_root() / "metaworld" / name
    try:
        content = path.read_bytes()
    except OSError:
        return None
    payload = content[_DIGEST_SIZE:]
    if hashlib.sha256(payload).digest() != content[:_DIGEST_SIZE]:
        warnings.warn(f"{path} is damaged and is made again.", RuntimeWarning, stacklevel=2)
        return None
    with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
        return dict(arrays)


def save(name: str, arrays: Mapping[str, NDArray]) -> None:
    """Keeps arrays for ``load``, if the cache folder can be written."""
    folder = cache_root() / "metaworld"
    if not writable_folder(folder):
        return
    payload = io.BytesIO()
    np.savez(payload, **arrays)  # type: ignore[arg-type]
    content = payload.getvalue()
    try:
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(hashlib.sha256(content).digest() + content)
        Path(file.name).replace(folder / name)
    except OSError as error:  # such as a full disk
        _warn_unwritable(cache_root(), str(error.strerror))
