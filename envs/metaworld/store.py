"""Arrays kept on disk because they take long to make: the benchmark's goals, models, states after reset.

Each file starts with the SHA-256 of the rest, which is numpy's own format without pickles. What is missing or damaged
is made again; where nothing can be written, nothing is kept.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
import warnings
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mtrl.envs.cache import cache_root, warn_unwritable, writable_folder

_DIGEST_SIZE = 32


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
    unfinished = folder / f"{name}.{os.getpid()}-{threading.get_ident()}"
    try:
        unfinished.write_bytes(hashlib.sha256(content).digest() + content)
        unfinished.replace(folder / name)
    except OSError as error:  # such as a full disk
        warn_unwritable(cache_root(), str(error.strerror))
