"""A run as a small folder for others: agent, configuration, result and model card."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from mtrl.agents.agent import without_optimizer
from mtrl.agents.files import read_state, write_state
from mtrl.agents.sharing.locate import AGENT_FILE
from mtrl.errors import CheckpointError, ConfigError, RunFolderError
from mtrl.records.results import Record, read_result, write_result
from mtrl.settings.config import make_config, to_yaml
from mtrl.settings.presets import read_yaml
from mtrl.sharing.card import model_card
from mtrl.training import checkpoint
from mtrl.training.run_folder import write_text, writing


def pack(run: Path, folder: Path) -> Path:
    """Write the newest whole checkpoint of ``run`` to a new ``folder``, without the optimizer's state. Returns it.

    Raises:
        ConfigError, CheckpointError, RunFolderError: no run, none of its checkpoints is whole, or the folder has
            something in it.
    """
    if not (run / "config.yaml").is_file():
        raise ConfigError(f"RUN: {run} is not a run folder (no config.yaml)")
    found, _ = checkpoint.newest_whole(run / "checkpoints")
    if found is None:
        raise CheckpointError(f"{run}: has no checkpoint yet")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunFolderError(f"FOLDER: {folder} is not empty")
    record = _published(read_result(run / "result.json"))
    saved = read_state(found.path / AGENT_FILE)
    if "params" in saved["state"].get("networks", {}).get("actor", {}):
        saved = without_optimizer(saved)
    config = make_config(found.config | {"run_dir": None})
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_state(folder / AGENT_FILE, saved)
    write_text(folder / "config.yaml", to_yaml(config))
    write_result(folder / "result.json", record)
    write_text(folder / "README.md", model_card(config, record, found.progress))
    return folder


def _published(record: Record) -> Record:
    """The record without the name of the folder that the run was in."""
    provenance = record["provenance"]
    commands = [without_run_dir(command) for command in provenance["commands"]]
    return record | {"provenance": provenance | {"commands": commands}}


def without_run_dir(command: str) -> str:
    """A command line without ``--run-dir``."""
    kept: list[str] = []
    words = shlex.split(command)
    while words:
        word = words.pop(0)
        if word == "--run-dir":
            words = words[1:]
        elif not word.startswith("--run-dir="):
            kept.append(word)
    return shlex.join(kept)


def read_packed(folder: Path) -> tuple[dict[str, Any], Record]:
    """Configuration, flat, and record of a shared folder.

    Raises:
        ConfigError, ResultError: a file is missing or damaged.
    """
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"{folder}: is no shared agent (no config.yaml)")
    return read_yaml(folder / "config.yaml"), read_result(folder / "result.json")
