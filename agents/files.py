"""Nested state as safetensors: tensors in the body, everything else as JSON in the header. No pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mtrl.agents.errors import AgentError
from mtrl.agents.state import join_state, split_state


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` to one safetensors file, first under a temporary name so that ``path`` is never half-written."""
    tensors, values = split_state(state)
    # A reader finds the old file or the new one, whenever this process ends.
    temporary = path.with_name(path.name + ".tmp")
    try:
        save_file(_apart(tensors), temporary, metadata={"json": json.dumps(values)})
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, copied where they share memory, which the format does not allow."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    return apart


def read_state(path: Path) -> dict[str, Any]:
    """Read what ``write_state`` wrote.

    Raises:
        AgentError: the file is missing, a folder, unreadable, truncated or of another kind.
    """
    if path.is_dir():
        raise AgentError(f"path: {path} is a folder; give a file that save wrote")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if "json" not in header:
                raise AgentError(f"path: {path} is a safetensors file but holds no saved agent")
            values = json.loads(header["json"])
            if not isinstance(values, dict):
                raise AgentError(f"path: {path} is a safetensors file but holds no saved agent")
            return join_state({name: file.get_tensor(name) for name in file.keys()}, values)  # noqa: SIM118
    except OSError as error:
        # A file that may not be read is a FileNotFoundError to safetensors, too.
        reason = f"cannot be read ({error})" if path.exists() else "does not exist"
        raise AgentError(f"path: {path} {reason}") from None
    except (SafetensorError, json.JSONDecodeError) as error:
        raise AgentError(f"path: {path} is truncated or not a saved agent ({error})") from None
