"""Where a number comes from: commit, command, configuration digest, package versions, machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from mtrl.extras import DISTRIBUTION

PACKAGES = (
    "mtrl",
    "torch",
    "numpy",
    "gymnasium",
    "mujoco",
    "metaworld",
    "minigrid",
    "envpool",
    "stable-baselines3",
    "numba",
    "safetensors",
)


def provenance(
    config_sha256: str, device: str, precision: str, command: str = ""
) -> dict[str, Any]:
    """The ``provenance`` object of the record of a run that starts now."""
    commit, dirty = git_state(Path(__file__).resolve().parent)
    return {
        "git_commit": commit,
        "git_dirty": dirty,
        "commands": [command] if command else [],
        "config_sha256": config_sha256,
        "packages": package_versions(),
        "python": platform.python_version(),
        "os": platform.platform(),
        "device": device,
        "cpu_count": os.cpu_count() or 1,
        "precision": precision,
    }


def package_versions() -> dict[str, str]:
    """Versions of the installed packages a result depends on."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(
                DISTRIBUTION if name == "mtrl" else name
            )
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@cache
def git_state(folder: Path) -> tuple[str | None, bool | None]:
    """Commit of the checkout that holds ``folder`` and whether tracked files differ; ``(None, None)`` outside one.

    Published results do not count: no run reads them, and each run of a sweep that repeats them changes some.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    # An installed copy may lie inside somebody's repository without being part of it.
    if commit is None or not _git(folder, "ls-files", "--", "__init__.py"):
        return None, None
    status = _git(
        folder,
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        ":(top)",
        ":(top,exclude)results",
    )
    return commit, None if status is None else bool(status)


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
