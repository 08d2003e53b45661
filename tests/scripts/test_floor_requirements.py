from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "floor_requirements.py"
PROJECT = """
[project]
dependencies = ["torch>=2.11,<=2.13.0", "numpy>=2.0,<3", "mujoco==3.3.0", "imageio[ffmpeg]<3,>=2.36"]

[project.optional-dependencies]
sb3 = ["stable-baselines3~=2.9"]
ray = ["ray>=2.40,<3"]
"""


def print_floors(folder: Path, project: str) -> subprocess.CompletedProcess[str]:
    path = folder / "pyproject.toml"
    path.write_text(project)
    return subprocess.run([sys.executable, SCRIPT, path], capture_output=True, text=True)


def test_floor_of_every_dependency_but_torch(tmp_path: Path) -> None:
    done = print_floors(tmp_path, PROJECT)
    expected = ["numpy==2.0", "mujoco==3.3.0", "imageio==2.36", "stable-baselines3==2.9"]
    assert done.stdout.splitlines() == expected, done.stderr


def test_dependency_without_a_floor_is_an_error(tmp_path: Path) -> None:
    done = print_floors(tmp_path, PROJECT.replace("numpy>=2.0,<3", "numpy<3"))
    assert done.returncode == 1
    assert done.stderr.strip().endswith("ValueError: numpy<3: names no oldest release")


def test_our_own_project() -> None:
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=True)
    names = [line.split("==")[0] for line in done.stdout.splitlines()]
    assert {"numpy", "safetensors", "stable-baselines3"} <= set(names)
    assert "torch" not in names and len(names) == len(set(names))
