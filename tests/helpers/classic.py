"""Declarations of gymnasium's classic control tasks, which need no other package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

CLASSIC3 = Path(__file__).parents[2] / "docs" / "examples" / "classic3.yaml"
"""CartPole, Acrobot and MountainCar, as the documentation has them."""
SWINGS: dict[str, Any] = {
    "name": "swings",
    "tasks": [
        {"id": "Pendulum-v1", "horizon": 40, "success": {"return": -100}},
        {"id": "MountainCarContinuous-v0", "horizon": 60, "success": {"return": 90}},
    ],
}
"""Two tasks with continuous actions."""


def cartpole(**keys: Any) -> dict[str, Any]:
    """A task; keyword arguments replace its keys."""
    return {"id": "CartPole-v1", "success": {"return": 10}} | keys


def written(folder: Path, declaration: Any, name: str = "suite.yaml") -> str:
    """The path of a file that holds the declaration."""
    path = folder / name
    path.write_text(yaml.safe_dump(declaration, sort_keys=False), encoding="utf-8")
    return str(path)
