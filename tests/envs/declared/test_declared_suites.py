"""From a file to a suite: defaults, the digest in its id, and the way back from the declaration alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mtrl.envs import SuiteError, declare, get_suite, suite_ids, suites
from mtrl.envs.declared import opening
from tests.helpers.classic import CLASSIC3, SWINGS, cartpole, written


def test_environments_fill_in_what_the_file_leaves_out() -> None:
    suite = get_suite(str(CLASSIC3))
    assert suite.id.startswith("classic3@") and suite.discrete and suite.num_tasks == 3
    assert [task.horizon for task in suite.tasks] == [500, 500, 200]
    assert [task.num_actions for task in suite.tasks] == [2, 3, 3]
    assert suite.groups == {
        "balance": ("CartPole-v1",),
        "swing-up": ("Acrobot-v1", "MountainCar-v0"),
    }
    assert suite.id not in suite_ids() and get_suite(suite.id) is get_suite(str(CLASSIC3))


def test_a_name_is_what_stands_after_namespace_and_module(tmp_path: Path) -> None:
    task = cartpole(id="gymnasium.envs.classic_control:CartPole-v1")
    assert get_suite(written(tmp_path, {"name": "a", "tasks": [task]})).task_names == (
        "CartPole-v1",
    )


def ids(tmp_path: Path, *declarations: Any) -> list[str]:
    return [get_suite(written(tmp_path, declaration)).id for declaration in declarations]


def test_ids_differ_where_declarations_do_and_nowhere_else(tmp_path: Path) -> None:
    plain = {"name": "a", "tasks": [cartpole()]}
    same = {
        "tasks": [dict(reversed(cartpole(horizon=500, actions=[0, 1]).items()))],
        "name": "a",
    }
    first, second = ids(tmp_path, plain, same)
    assert first == second
    changes = [
        {"horizon": 499},
        {"actions": [1, 0]},
        {"success": {"return": 11}},
        {"success": {"info": "x"}},
        {"skill": "x"},
        {"groups": ["x"]},
        {"observation": [0, 3]},
        {"make": {"sutton_barto_reward": True}},
        {"name": "x"},
    ]
    others = [{"name": "a", "tasks": [cartpole(**change)]} for change in changes]
    found = ids(tmp_path, plain, {**plain, "name": "b"}, *others)
    assert len(set(found)) == len(found) == 11


@pytest.mark.parametrize("declaration", [SWINGS, {"name": "a", "tasks": [cartpole()]}])
def test_the_declaration_alone_gives_the_suite_and_makes_no_environment(
    declaration: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = get_suite(written(tmp_path, declaration))
    monkeypatch.setattr(suites, "_declared", {})
    monkeypatch.setattr(opening, "make_env", None)
    with pytest.raises(SuiteError, match="There is no suite"):
        get_suite(suite.id)
    assert suite.declaration is not None
    assert declare(suite.declaration) == suite == get_suite(suite.id)


def test_a_declaration_read_as_a_file_is_the_same_suite(tmp_path: Path) -> None:
    suite = get_suite(written(tmp_path, SWINGS))
    assert suite.declaration is not None
    again = tmp_path / "again.yaml"
    again.write_text(suite.declaration)
    assert get_suite(str(again)) == suite


def test_a_broken_declaration_is_refused_in_one_sentence(tmp_path: Path) -> None:
    declaration = get_suite(written(tmp_path, SWINGS)).declaration
    assert declaration is not None
    values = json.loads(declaration)
    values["tasks"][1]["horizon"] = None
    with pytest.raises(SuiteError, match=r"^declaration: tasks\[1\].horizon: is missing\.$"):
        declare(json.dumps(values))
    with pytest.raises(SuiteError, match=r"^declaration: is not JSON\.$"):
        declare(declaration[:-1])
    with pytest.raises(SuiteError, match=r"^declaration: the file must hold"):
        declare("[" * 3 + "]" * 3)


def test_a_suite_that_no_result_file_could_hold_is_refused(tmp_path: Path) -> None:
    tasks = [cartpole(name=f"task-{place}", skill="x" * 100) for place in range(40)]
    with pytest.raises(SuiteError, match="at most 10,000 are allowed"):
        get_suite(written(tmp_path, {"name": "long", "tasks": tasks}))
