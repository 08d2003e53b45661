"""The decorator of every compiled kernel."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba


def _cache_directory() -> str:
    """A writable folder named after the source of all kernels and of the constants in them.

    numba recompiles when the file of the function itself changes, but not when a kernel that it calls from another file
    does; naming the folder after all of them makes a stale kernel impossible.
    """
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        source = path.read_bytes()
        if b"@kernel" in source or path.stem in ("cells", "families"):
            digest.update(source)
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    for root in (numba.config.CACHE_DIR, home):
        folder = Path(root) / "mtrl" / f"minigrid-{digest.hexdigest()[:16]}"
        try:
            if root:
                folder.mkdir(parents=True, exist_ok=True)
                if os.access(folder, os.W_OK):
                    return str(folder)
        except OSError:
            continue
    return tempfile.mkdtemp(prefix="mtrl-minigrid-")


_DIRECTORY = _cache_directory()


def kernel(function: Callable[..., Any], **options: Any) -> Any:
    """Compile ``function`` on first call, without the interpreter lock, and keep the machine code on disk.

    ``options`` are numba's.
    """
    configured, numba.config.CACHE_DIR = numba.config.CACHE_DIR, _DIRECTORY
    try:
        dispatcher = numba.njit(cache=True, nogil=True, error_model="numpy", **options)(function)
    finally:
        numba.config.CACHE_DIR = configured
    # numba would compile a version for every constant that another kernel passes; one per type halves the first start.
    resolve = getattr(dispatcher, "get_call_template", None)
    if resolve is not None:
        dispatcher.get_call_template = lambda args, kws: resolve(tuple(map(numba.types.unliteral, args)), kws)
    return dispatcher
