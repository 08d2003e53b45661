"""``mtrl hub pack|push|pull``: a trained agent as a folder for others, and the Hugging Face Hub."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtrl import cli
from mtrl.envs.errors import choices
from mtrl.errors import ConfigError

USAGE = """usage: mtrl hub pack RUN FOLDER                  write agent, config, result and model card to a new folder
       mtrl hub push RUN ORG/NAME [--private]    the same folder as a repository of the Hugging Face Hub
       mtrl hub pull ORG/NAME                    fetch a repository, and print the folder it is in

pack writes the agent of the newest whole checkpoint, without its optimizer. The checkpoint itself is larger, because
it holds all that training needs. `mtrl.MTPPO.from_pretrained` takes a folder or an ORG/NAME. push and pull need the
package huggingface_hub; push needs a login (`hf auth login`)."""
_WORDS = {"pack": ("RUN", "FOLDER"), "push": ("RUN", "ORG/NAME"), "pull": ("ORG/NAME",)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status (0 done, 1 failed while running, 2 bad input)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return cli.run_command("mtrl hub", lambda: _run(arguments))


def _run(argv: list[str]) -> int:
    words, options = cli.parse(argv, {"private": bool})
    if not argv or "help" in options:
        print(cli.fitted(USAGE))
        return 0
    print(_result(words, options))
    return 0


def _result(words: list[str], options: dict[str, Any]) -> str:
    """Run the requested action. Returns the folder that was written or the address of the upload."""
    verb, *words = words or [""]
    if verb not in _WORDS:
        raise ConfigError(f"hub: {verb!r} is unknown; {choices(verb, _WORDS)}")
    if len(words) != len(_WORDS[verb]):
        raise ConfigError(f"hub {verb}: needs {' and '.join(_WORDS[verb])}")
    if options and verb != "push":
        raise ConfigError(f"private: goes with push, not with {verb}")
    from mtrl.agents.sharing import hub
    from mtrl.sharing.pack import pack

    if verb == "pull":
        return str(hub.fetch(words[0]))
    if verb == "pack":
        return str(pack(Path(words[0]), Path(words[1])))
    with tempfile.TemporaryDirectory() as folder:
        packed = pack(Path(words[0]), Path(folder) / "agent")
        return hub.upload(packed, words[1], private=options.get("private", False))


if __name__ == "__main__":
    sys.exit(main())
