"""The cache folder. It keeps machine code, models, goals and states after reset, all of which can be made again."""

from __future__ import annotations

import os
import tempfile
import warnings
from functools import cache
from pathlib import Path


def cache_root() -> Path:
    """``$MTRL_CACHE``, else ``mtrl`` in ``$XDG_CACHE_HOME``, else ``mtrl`` in ``~/.cache``."""
    if chosen := os.environ.get("MTRL_CACHE"):
        return Path(chosen)
    if caches := os.environ.get("XDG_CACHE_HOME"):
        return Path(caches) / "mtrl"
    return _home() / ".cache" / "mtrl"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        # A container may run under a user that has no home. Debian gives such users this one, which nobody can write.
        return Path("/nonexistent")


@cache
def writable_folder(folder: Path) -> bool:
    """Whether files can be written to ``folder``. Creates it if needed, and warns once if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        warn_unwritable(cache_root(), str(error.strerror))
        return False
    return True


_warned: set[Path] = set()


def warn_unwritable(root: Path, reason: str) -> None:
    """Warn that ``root`` keeps nothing, once a process."""
    if root in _warned:
        return
    _warned.add(root)
    warnings.warn(
        f"Nothing can be kept in {root} ({reason}), so every start prepares and compiles again; "
        "set MTRL_CACHE to a folder that can be written.",
        RuntimeWarning,
        stacklevel=3,
    )


def announcement(work: str) -> str:
    """The line that announces slow ``work`` and says whether the next start repeats it."""
    fate = "kept for next time" if writable_folder(cache_root()) else "cannot be kept"
    return f"{work} ({fate})"
