"""What two equal runs have in common: everything but the clock and the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mtrl.agents.files import read_state
from mtrl.agents.state import split_state
from mtrl.training.checkpoint import newest_first


def final_state(run: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Tensors (as bytes) and values of a run's newest checkpoint, without wall-clock times."""
    path = newest_first(run / "checkpoints")[0]
    tensors, values = split_state(read_state(path / "state.safetensors"))
    return (
        {
            name: f"{tensor.dtype}{tuple(tensor.shape)}".encode() + tensor.numpy().tobytes()
            for name, tensor in tensors.items()
        },
        without_clock({"env_steps": path.name, **values}),
    )


def final_record(run: Path) -> dict[str, Any]:
    """The result record without wall-clock times and command."""
    record = json.loads((run / "result.json").read_text())
    record["provenance"].pop("command")
    return without_clock(record)


def without_clock(value: Any) -> Any:
    """Drop every ``wall_s``, at any depth and as the last part of a path."""
    if isinstance(value, dict):
        return {
            key: without_clock(item)
            for key, item in value.items()
            if key.rsplit("/", 1)[-1] != "wall_s"
        }
    return [without_clock(item) for item in value] if isinstance(value, list) else value
