"""What two equal runs have in common: everything but the clock and the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mtrl.agents.files import read_state
from mtrl.agents.state import split_state
from mtrl.training.checkpoint import newest_first


def final_state(run: Path, lengthened: bool = False) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Tensors (as bytes) and values of a run's newest checkpoint, without wall-clock times and commands.

    Args:
        lengthened: leave out what was planned too, which tells a lengthened run from one that was planned as long.
    """
    path = newest_first(run / "checkpoints")[0]
    tensors, values = split_state(read_state(path / "state.safetensors"))
    if lengthened:
        del values["trainer/segments"]
    return (
        {
            name: f"{tensor.dtype}{tuple(tensor.shape)}".encode() + tensor.numpy().tobytes()
            for name, tensor in tensors.items()
        },
        without_clock({"env_steps": path.name, **values}),
    )


def final_record(run: Path) -> dict[str, Any]:
    """The result record without wall-clock times and commands."""
    record = json.loads((run / "result.json").read_text())
    return without_clock(record)


def without_clock(value: Any) -> Any:
    """Drop every ``wall_s`` and ``commands``, at any depth and as the last part of a path."""
    if isinstance(value, dict):
        return {
            key: without_clock(item)
            for key, item in value.items()
            if key.rsplit("/", 1)[-1] not in ("wall_s", "commands")
        }
    return [without_clock(item) for item in value] if isinstance(value, list) else value
