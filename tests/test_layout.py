"""Imports follow the layout: envs know nothing of ours, agents know what environments are, mtrl knows both."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from scripts.measure_code import FOLDERS, ROOT, imports, room, sources

# What agents may know of environments; everything else there is an engine's business.
OF_ENVS = ("mtrl.envs.specs", "mtrl.envs.vector", "mtrl.envs.compiled", "mtrl.envs.errors")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "mtrl" else ("mtrl", *parts)
    return ".".join(parts).removesuffix(".__init__")


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_arrow_points_upward(folder: str) -> None:
    allowed = {
        "envs": {"envs"},
        "agents": {"agents", "envs"},
        "mtrl": {"mtrl", "agents", "envs"},
    }[folder]
    wrong = [
        f"{name_of(path)} -> {module}"
        for path in sources(ROOT / folder)
        for module in imports(path)
        if room(module) not in allowed
    ]
    assert not wrong


def test_agents_know_of_environments_only_what_they_are() -> None:
    wrong = [
        f"{name_of(path)} -> {module}"
        for path in sources(ROOT / "agents")
        for module in imports(path)
        if room(module) == "envs" and not module.startswith(OF_ENVS)
    ]
    assert not wrong


def test_no_circle_among_modules() -> None:
    graph: dict[str, set[str]] = {}
    for folder in FOLDERS:
        for path in sources(ROOT / folder):
            module = name_of(path)
            graph[module] = {
                other for other in imports(path, top_level_only=True) if other != module
            }
    inits = [
        path for folder in FOLDERS for path in sources(ROOT / folder) if path.stem == "__init__"
    ]
    packages = {name_of(path) for path in inits}
    for module, others in graph.items():
        # A package's own __init__ runs before any of its modules, so that naming the package is no circle.
        graph[module] = {
            other
            for other in others
            if other not in packages or not module.startswith(f"{other}.")
        }
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("folder", ["agents", "mtrl"])
def test_the_top_of_a_folder_holds_few_files(folder: str) -> None:
    assert len(list((ROOT / folder).glob("*.py"))) <= 14


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_an_agent_fits_on_two_screens(algorithm: str) -> None:
    tree = ast.parse((ROOT / "agents" / algorithm / "agent.py").read_text(encoding="utf-8"))
    (agent,) = [part for part in tree.body if isinstance(part, ast.ClassDef)]
    assert agent.end_lineno is not None
    assert agent.end_lineno - agent.lineno < 100


def test_nothing_yields_on_the_way_to_the_loss() -> None:
    ways = [
        "agent.py",
        "on_policy.py",
        "off_policy.py",
        "seeds.py",
        "ppo",
        "sac",
        "optim",
        "networks",
    ]
    for way in ways:
        place = ROOT / "agents" / way
        for path in [place] if place.is_file() else sources(place):
            assert "yield" not in path.read_text(encoding="utf-8"), path
