"""Which file holds the agent of a file, a checkpoint, a run folder or a shared folder."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path

from mtrl.agents.errors import AgentError

AGENT_FILE = "agent.safetensors"


def agent_file(path: Path) -> Path:
    """Find the agent file: ``path`` itself, the one in that folder, or the newest checkpoint of that run.

    A checkpoint whose file does not match its digest is left out with a warning, as when a run continues.

    Raises:
        AgentError: a folder without an agent, or a run whose checkpoints are all damaged.
    """
    if not path.is_dir():
        return path
    if (path / AGENT_FILE).is_file():
        return path / AGENT_FILE
    checkpoints = newest_first(path / "checkpoints")
    damaged: list[Path] = []
    for checkpoint in checkpoints:
        if _is_whole(checkpoint):
            for newer in damaged:
                warnings.warn(f"{newer}: damaged; using an older one", stacklevel=4)
            return checkpoint / AGENT_FILE
        damaged.append(checkpoint)
    if checkpoints:
        raise AgentError(f"path: every checkpoint in {path} is damaged")
    raise AgentError(
        f"path: {path} is a folder without an agent; give a file that save wrote, a checkpoint or a run folder"
    )


def newest_first(folder: Path) -> list[Path]:
    """The checkpoints in a run's folder of checkpoints, newest first, whole or not."""
    found = [path for path in folder.glob("*") if path.name.isdecimal()]
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def _is_whole(checkpoint: Path) -> bool:
    """Whether the agent's file is the one that the checkpoint's manifest describes."""
    try:
        manifest = json.loads((checkpoint / "manifest.json").read_text(encoding="utf-8"))
        expected = manifest["sha256"][AGENT_FILE]
        with (checkpoint / AGENT_FILE).open("rb") as file:
            return bool(hashlib.file_digest(file, "sha256").hexdigest() == expected)
    except (OSError, ValueError, KeyError, TypeError):
        return False
