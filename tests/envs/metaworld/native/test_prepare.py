"""Kept resets are stock's resets; what is missing, damaged or cannot be kept is made again."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from mtrl.envs import get_suite, make_vec
from mtrl.envs.metaworld import store
from mtrl.envs.metaworld.goals import benchmark_goals
from mtrl.envs.metaworld.native.prepare import Prepared, prepare
from mtrl.envs.metaworld.native.stock import make_stock, snapshot, stock_reset, task_bounds
from mtrl.envs.metaworld.native.tasks import TASKS
from tests.envs.metaworld.metaworld_reference import random_steps


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MTRL_CACHE", str(tmp_path))
    return tmp_path / "metaworld"


def one_task(name: str = "reach-v3", num_goals: int = 2) -> Prepared:
    goals = benchmark_goals(get_suite(f"mt1:{name}"), 0)[0][:num_goals]
    return prepare([TASKS[name]], [goals], num_threads=2)[0]


def assert_same(one: Prepared, other: Prepared) -> None:
    np.testing.assert_array_equal(one.binary, other.binary)
    np.testing.assert_array_equal(one.bounds, other.bounds)
    for left, right in zip(one.resets, other.resets):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("name", ["bin-picking-v3", "peg-insert-side-v3", "window-close-v3"])
def test_resets_are_those_of_a_fresh_stock_environment(name: str) -> None:
    prepared = one_task(name, num_goals=3)
    goals = benchmark_goals(get_suite(f"mt1:{name}"), 0)[0]
    for goal in (2, 0):
        env = make_stock(name)
        fresh = snapshot(TASKS[name], env, stock_reset(env, goals[goal]))
        for kept, expected in zip(prepared.resets, (fresh.state, fresh.init, fresh.obs)):
            np.testing.assert_array_equal(kept[goal], expected)
        np.testing.assert_array_equal(prepared.bounds, task_bounds(TASKS[name], env))


def test_what_was_kept_is_used_again(empty: Path) -> None:
    made = one_task()
    files = {path: path.stat().st_mtime_ns for path in empty.iterdir()}
    assert_same(one_task(), made)
    assert files == {path: path.stat().st_mtime_ns for path in empty.iterdir()}
    one_task(num_goals=1)
    assert len(list(empty.iterdir())) == len(files) + 1  # other goals, the same model


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_a_damaged_file_is_noticed_and_made_again(empty: Path, damage: str) -> None:
    made = one_task()
    paths = sorted(path for path in empty.iterdir() if path.name.startswith("reach"))
    contents = [path.read_bytes() for path in paths]
    assert len(paths) == 2
    for path, content in zip(paths, contents):
        middle = len(content) // 2
        path.write_bytes({
            "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "cut": content[:middle],
            "empty": b"",
        }[damage])  # fmt: skip
        with pytest.warns(RuntimeWarning, match=f"{path.name} is damaged and is made again"):
            assert_same(one_task(), made)
        assert path.read_bytes() == content


def test_without_a_writable_folder_everything_is_made_again_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MTRL_CACHE", str(tmp_path / "file" / "below"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        first, second = one_task(), one_task()
    assert_same(first, second)
    assert [str(w.message).startswith("Nothing can be kept in") for w in caught] == [True]


@pytest.mark.slow
def test_a_program_without_a_writable_folder_computes_the_same(tmp_path: Path) -> None:
    """Compiled code included, which is then compiled without being kept."""
    (tmp_path / "file").touch()
    code = """
from mtrl.envs import make_vec
from tests.envs.metaworld.metaworld_reference import random_steps
env = make_vec("mt1:push-v3", 2, backend="native")
env.reset()
print(random_steps(env, 20).sum().hex())
"""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "MTRL_CACHE": str(tmp_path / "file"),
    }
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    env = make_vec("mt1:push-v3", 2, backend="native")
    env.reset()
    assert result.stdout.strip() == random_steps(env, 20).sum().hex()
    assert result.stderr.count("Nothing can be kept in") == 1
    env.close()


def test_names_differ_with_any_part() -> None:
    names = {
        store.digest(*parts)
        for parts in [("ab", "c"), ("a", "bc"), ("abc",), (b"ab", np.float64(1))]
    }
    assert len(names) == 4
