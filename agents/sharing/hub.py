"""The Hugging Face Hub: folders fetched by ``ORG/NAME`` and uploaded under it. A local path never reaches it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mtrl.agents.errors import AgentError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
SHARED_FILES = ("agent.safetensors", "config.yaml", "result.json", "README.md")
"""Files of a shared folder; nothing else is fetched."""


def local_folder(name: str | Path) -> Path:
    """Return the local path ``name`` if it exists; otherwise download the Hub repository ``ORG/NAME``.

    Raises:
        AgentError: there is no such path, and the name is no Hub id or the Hub does not have it.
    """
    path = Path(name)
    if path.exists():
        return path
    if isinstance(name, Path) or not is_hub_id(name):
        raise AgentError(f"path: {name} does not exist, and a Hub id is written ORG/NAME")
    return fetch(name)


def is_hub_id(name: str) -> bool:
    """Whether ``name`` can be the id of a Hub repository, such as ``my-team/mt10-mtppo``."""
    return _HUB_ID.fullmatch(name) is not None


def fetch(hub_id: str) -> Path:
    """The shared files of a Hub repository, downloaded unless they are kept from before.

    Raises:
        AgentError: huggingface_hub is missing, or the Hub cannot give the repository.
    """
    hub = _library()
    try:
        return Path(hub.snapshot_download(hub_id, allow_patterns=list(SHARED_FILES)))
    except (OSError, ValueError) as error:
        raise AgentError(
            f"path: {hub_id} is no local path, and the Hub does not give it ({_first_line(error)})"
        ) from error


def upload(folder: Path, hub_id: str, private: bool = False) -> str:
    """Upload the shared files of ``folder`` as the repository ``hub_id``, made if there is none. Returns its address.

    Raises:
        AgentError: huggingface_hub is missing, the id is none, or the Hub refuses.
    """
    if not is_hub_id(hub_id):
        raise AgentError(f"hub_id: {hub_id!r} is not written ORG/NAME")
    api = _library().HfApi()
    try:
        api.create_repo(hub_id, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=hub_id, folder_path=str(folder), allow_patterns=list(SHARED_FILES)
        )
    except (OSError, ValueError) as error:
        raise AgentError(f"hub_id: the Hub refuses {hub_id} ({_first_line(error)})") from error
    return f"https://huggingface.co/{hub_id}"


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise AgentError(
            "the Hugging Face Hub needs the package huggingface_hub; install it with: pip install huggingface_hub"
        ) from None
    return huggingface_hub


def _first_line(error: Exception) -> str:
    """The library's messages run over many lines."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
