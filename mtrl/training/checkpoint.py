"""Checkpoints: safetensors and JSON in one folder, whole or absent, every file under a digest. No pickle.

``checkpoints/000000200000/`` holds ``manifest.json`` (schema, configuration, sha256 of the other files and of itself),
``agent.safetensors`` (what ``agent.save`` writes, all that evaluation needs) and ``state.safetensors`` (all that
training needs). Values that are not tensors are JSON in the safetensors headers.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from mtrl.agents.files import read_state, write_state
from mtrl.errors import CheckpointError, WriteError
from mtrl.training.run_folder import sync_folder, write_text, writing

SCHEMA_VERSION = 2
KEPT = 2
State = dict[str, Any]
_FILES = ("agent.safetensors", "state.safetensors")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files have been checked against their digests.

    Attributes:
        progress: how far training had come, in the unit of the agent.
    """

    path: Path
    progress: int
    config: dict[str, Any]

    def agent(self) -> State:
        """The agent's state without experience, tensors on the CPU."""
        saved: State = read_state(self.path / "agent.safetensors")
        state: State = saved["state"]
        return state

    def state(self) -> State:
        """The whole training state, tensors on the CPU."""
        return read_state(self.path / "state.safetensors")


def save(
    folder: Path, progress: int, config: dict[str, Any], state: State, agent: State
) -> Path:
    """Write a checkpoint under a temporary name, make it durable, rename it, then drop all but the newest two.

    Raises:
        WriteError: the disk is full or the folder cannot be written; the checkpoints that were there are untouched.
    """
    final = folder / f"{progress:012d}"
    temporary = folder / f".tmp-{final.name}"
    with writing(final):
        temporary.mkdir(parents=True)
        try:
            _write_files(temporary, {"agent.safetensors": agent, "state.safetensors": state})
            manifest = {
                "schema_version": SCHEMA_VERSION,
                "env_steps": progress,
                "config": config,
            }
            manifest["sha256"] = {name: file_digest(temporary / name) for name in _FILES}
            manifest["manifest_sha256"] = _digest_of(manifest)
            write_text(temporary / "manifest.json", json.dumps(manifest, indent=1) + "\n")
            if final.exists():
                shutil.rmtree(final)
            temporary.rename(final)
            sync_folder(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        for old in newest_first(folder)[KEPT:]:
            shutil.rmtree(old)
    return final


def _write_files(folder: Path, states: dict[str, State]) -> None:
    for name, state in states.items():
        try:
            write_state(folder / name, state)
        except SafetensorError as error:
            raise WriteError(f"{folder.parent}: cannot be written ({error})") from error
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())


def newest_first(folder: Path) -> list[Path]:
    """The checkpoints of a run, newest first, whole or not."""
    found = (
        [path for path in folder.glob("*") if path.name.isdecimal()] if folder.is_dir() else []
    )
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def verify(path: Path) -> Checkpoint:
    """Check a checkpoint's files against their digests.

    Raises:
        CheckpointError: a file is missing, truncated or changed, or the schema is another one.
    """
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        if manifest["schema_version"] != SCHEMA_VERSION:
            raise CheckpointError(
                f"{path}: schema_version is {manifest['schema_version']!r} there and {SCHEMA_VERSION} here; "
                "continue with the version of mtrl that wrote it"
            )
        if manifest.pop("manifest_sha256") != _digest_of(manifest):
            raise CheckpointError(f"{path}: damaged, manifest.json does not match its sha256")
        for name in _FILES:
            if file_digest(path / name) != manifest["sha256"][name]:
                raise CheckpointError(f"{path}: damaged, {name} does not match its sha256")
        return Checkpoint(path, manifest["env_steps"], manifest["config"])
    except OSError as error:
        missing = Path(error.filename).name if error.filename else "a file"
        raise CheckpointError(
            f"{path}: damaged, {missing} cannot be read ({error.strerror})"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        raise CheckpointError(
            f"{path}: damaged, manifest.json is truncated or not a checkpoint's"
        ) from None


def newest_whole(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole, with one warning for each newer damaged one; None if there are none at all.

    Raises:
        CheckpointError: there are checkpoints but every one is damaged.
    """
    warnings: list[str] = []
    for path in newest_first(folder):
        try:
            return verify(path), warnings
        except CheckpointError as error:
            warnings.append(str(error))
    if warnings:
        raise CheckpointError(
            f"{warnings[0]}; no whole checkpoint is left, so the run cannot continue"
        )
    return None, []


def set_aside(folder: Path, newer_than: int) -> None:
    """Rename damaged checkpoints newer than the one in use, so that they neither count as kept nor are lost."""
    for path in newest_first(folder):
        if int(path.name) > newer_than:
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)


def tensors_of(arrays: State) -> dict[str, Tensor]:
    """An environment's arrays as tensors, copied, so that they go into the same file."""
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def file_digest(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
