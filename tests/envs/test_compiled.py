"""Machine code is kept, found again and made anew when a file behind it changes; slow compiling is announced."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mtrl
from mtrl.envs import cache, compiled

MTRL = Path(mtrl.__file__).parent

# Doubles its argument, by a kernel and a constant of two other files.
ENGINE = {
    "__init__": "",
    "constants": "FACTOR = 2\n",
    "product": """
from mtrl.envs.compiled import kernel
from .constants import (  # relative, (and) with a comment
    FACTOR,
)

@kernel
def product(x):
    return FACTOR * x
""",
    "step": """
from engine import product as other
from mtrl.envs.compiled import kernel
product = other.product

@kernel
def step(x):
    return product(x)
""",
}
RUN = """
from mtrl.envs import compiled
compiled.PATIENCE_S = 0.0
compiled.PARTS["engine."] = "the test engine"
from engine.step import step
print(step(3))
print(step(4))
"""


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    folder = tmp_path / "engine"
    folder.mkdir()
    for name, text in ENGINE.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def run(engine: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(engine.parent), str(MTRL.parent)])
    environment = os.environ | {"PYTHONPATH": paths} | variables
    return subprocess.run(
        [sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, check=True
    )


def machine_code(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.nbc")}


def test_machine_code_is_kept_and_made_anew_when_a_file_behind_it_changes(
    engine: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    cold = run(engine, MTRL_CACHE=str(kept))
    assert cold.stdout == "6\n8\n"
    assert cold.stderr == "Compiling the test engine (kept for next time)\n"
    first = machine_code(kept)
    assert len(first) == 2

    warm = run(engine, MTRL_CACHE=str(kept))
    assert (warm.stdout, warm.stderr) == ("6\n8\n", "")
    assert machine_code(kept) == first

    (engine / "constants.py").write_text("FACTOR = 5\n")
    assert run(engine, MTRL_CACHE=str(kept)).stdout == "15\n20\n"


def test_an_unwritable_home_is_said_once_and_leaves_nothing_behind(
    engine: Path, tmp_path: Path
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    # /proc takes no files, not even from root.
    result = run(
        engine,
        HOME="/proc",
        MTRL_CACHE="/proc/x",
        TMPDIR=str(temporary),
        PYTHONDONTWRITEBYTECODE="1",
    )
    assert result.stdout == "6\n8\n"
    assert result.stderr.count("Nothing can be kept in /proc/x") == 1
    assert result.stderr.count("Compiling the test engine (cannot be kept)") == 1
    assert list(temporary.iterdir()) == []
    assert sorted(path.stem for path in engine.iterdir()) == sorted(ENGINE)


@pytest.mark.parametrize(
    ("variables", "root"),
    [
        ({"MTRL_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"MTRL_CACHE": "", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/mtrl"),
        ({"XDG_CACHE_HOME": "", "HOME": "/c"}, "/c/.cache/mtrl"),
    ],
)
def test_where_the_cache_is(
    variables: dict[str, str], root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MTRL_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache.cache_root() == Path(root)
    assert root in str(compiled.code_folder(Path(__file__)))


def test_a_user_without_a_home_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.delenv("MTRL_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache.cache_root() == Path("/nonexistent/.cache/mtrl")


def test_folders_of_one_unwritable_root_give_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MTRL_CACHE", str(tmp_path / "file"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert not cache.writable_folder(tmp_path / "file" / "code" / "1")
        assert not cache.writable_folder(tmp_path / "file" / "code" / "2")
    assert len(caught) == 1


def with_kernels(folder: Path) -> set[Path]:
    return {
        path
        for path in folder.rglob("*.py")
        if "import kernel\n" in path.read_text(encoding="utf-8")
    }


def test_every_file_behind_the_engines_is_covered() -> None:
    minigrid = MTRL / "envs/minigrid"
    constants = {minigrid / "cells.py", minigrid / "families.py"}
    assert compiled.covered(minigrid / "batch.py") >= with_kernels(minigrid) | constants

    metaworld = MTRL / "envs/metaworld/native"
    shared = {metaworld / f"{name}.py" for name in ("kernel", "physics", "jit", "layout")}
    assert compiled.covered(metaworld / "share.py") >= shared
    for path in (metaworld / "tasks").glob("*.py"):
        assert compiled.covered(path) >= shared | {metaworld / "rewards.py"}


def test_editing_one_part_keeps_the_code_of_the_others() -> None:
    agents = MTRL / "agents/optim/gramian_kernels.py"
    minigrid = MTRL / "envs/minigrid/batch.py"
    metaworld = MTRL / "envs/metaworld/native/share.py"
    shared = {MTRL / "envs/compiled.py", MTRL / "envs/cache.py"}
    for one, other in ((agents, minigrid), (agents, metaworld), (minigrid, metaworld)):
        common = compiled.covered(one) & compiled.covered(other)
        assert {path for path in common if path.name != "__init__.py"} == shared


def test_a_function_without_a_file_is_compiled_without_being_kept() -> None:
    names: dict[str, Any] = {}
    exec("def twice(x):\n    return 2 * x", names)
    assert compiled.kernel(names["twice"])(4) == 8


def test_options_reach_numba() -> None:
    def beyond(x: tuple[int, int], k: int) -> int:
        return x[k]

    function = compiled.kernel(beyond, boundscheck=True)
    assert function.targetoptions["boundscheck"]
    assert function.targetoptions["error_model"] == "numpy"
    assert function.targetoptions["nogil"]


class Clock:
    """Stands in for ``time``."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


def compiling(module: str) -> Any:
    """numba's event for a function of that module."""
    return SimpleNamespace(
        data={"dispatcher": SimpleNamespace(py_func=SimpleNamespace(__module__=module))}
    )


def compile_for(seconds: float, announcer: Any, clock: Clock, module: str) -> None:
    event = compiling(module)
    announcer.on_start(event)
    clock.now += seconds
    announcer.on_start(event)  # a function that the first one calls
    announcer.on_end(event)
    announcer.on_end(event)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Clock:
    monkeypatch.setenv("MTRL_CACHE", str(tmp_path))
    clock = Clock()
    monkeypatch.setattr(compiled, "time", clock)
    return clock


def test_only_long_compiling_is_announced_and_only_once(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    announcer = compiled._Announcer()
    compile_for(1.5, announcer, clock, "mtrl.agents.networks.grid_kernels")
    compile_for(30.0, announcer, clock, "somebody.else")
    assert capsys.readouterr().err == ""
    compile_for(1.0, announcer, clock, "mtrl.agents.row_kernels")
    assert capsys.readouterr().err == "Compiling the agents' kernels (kept for next time)\n"
    compile_for(30.0, announcer, clock, "mtrl.agents.row_kernels")
    assert capsys.readouterr().err == ""
    compile_for(30.0, announcer, clock, "mtrl.envs.minigrid.batch")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "Compiling the MiniGrid engine (kept for next time)\n")


def test_worker_processes_announce_nothing(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "parent_process", lambda: "the program")
    compile_for(30.0, compiled._Announcer(), clock, "mtrl.envs.minigrid.batch")
    assert capsys.readouterr().err == ""
