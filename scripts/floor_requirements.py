"""Print the oldest release that ``pyproject.toml`` allows of every package, as constraints for an installer.

python scripts/floor_requirements.py > floors.txt && pip install -c floors.txt -e ".[sb3]"
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("sb3",)
# Older releases of PyTorch install gigabytes of CUDA, and its newest allowed release is the CPU build we test.
LEFT_OUT = ("torch",)


def floors(project: dict[str, Any]) -> list[str]:
    """List ``name==floor`` for every run-time dependency of a ``[project]`` table and of ``EXTRAS``.

    Raises:
        ValueError: a dependency has no oldest release.
    """
    lines = list(project["dependencies"])
    for extra in EXTRAS:
        lines += project["optional-dependencies"][extra]
    requirements = [Requirement(line) for line in lines]
    return [
        f"{wanted.name}=={floor(wanted)}"
        for wanted in requirements
        if wanted.name not in LEFT_OUT
    ]


def floor(requirement: Requirement) -> str:
    """The oldest release that a requirement allows. Raises ValueError if it names none."""
    for specifier in requirement.specifier:
        if specifier.operator in (">=", "==", "~="):
            return specifier.version
    raise ValueError(f"{requirement}: names no oldest release")


def main(argv: Sequence[str]) -> int:
    """Print the floors of the ``pyproject.toml`` named, by default our own."""
    path = Path(argv[0]) if argv else ROOT / "pyproject.toml"
    print("\n".join(floors(tomllib.loads(path.read_text())["project"])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
