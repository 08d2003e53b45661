"""What is wrong in a declaration is said in one sentence that names the place, the value and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Text

from mtrl.envs import SuiteError, get_suite
from tests.helpers.classic import cartpole, written

SUCCESS = r"{return: NUMBER} or {info: KEY}"
MALFORMED: dict[str, tuple[Any, str]] = {
    "no mapping": ([1], "the file must hold 'key: value' lines."),
    "no name": ({"tasks": [cartpole()]}, "name: is missing; it is a name of at most 80 "),
    "a bad name": ({"name": "a/b", "tasks": [cartpole()]}, "name: 'a/b' is not a name of at most"),
    "no tasks": ({"name": "a"}, "tasks: is missing; it is a list of tasks."),
    "an empty list": ({"name": "a", "tasks": []}, "tasks: must be a list of 1 to 200 tasks."),
    "a task that is none": ({"name": "a", "tasks": ["x"]}, "tasks[0] must hold 'key: value' lines."),
    "a misspelled key": ({"name": "a", "task": [cartpole()]}, "task: unknown key; did you mean tasks?"),
    "an unknown kind": (
        {"name": "a", "actions": "mixed", "tasks": [cartpole()]},
        "actions: 'mixed' is not discrete or continuous.",
    ),
}  # fmt: skip
WRONG_TASKS: dict[str, tuple[dict[str, Any], str]] = {
    "no id": ({"success": {"return": 1}}, ".id: is missing; it is the id of a gymnasium environment"),
    "no success": ({"id": "CartPole-v1"}, f".success: is missing; it is {SUCCESS}."),
    "a misspelled key": (cartpole(horizn=9), ".horizn: unknown key; did you mean horizon?"),
    "an unlike key": (cartpole(xyzzy=9), ".xyzzy: unknown key; the keys are id, name, success, "),
    "an unknown id": (cartpole(id="CartPole-v9"), ".id: gymnasium knows no environment 'CartPole-v9'; did you mean "),
    "an unknown module": (cartpole(id="nowhere_at_all:X-v0"), ".id: 'nowhere_at_all:X-v0' cannot be made: "),
    "horizon 0": (cartpole(horizon=0), ".horizon: 0 is not a whole number of steps from 1 to 1,000,000."),
    "a bool as horizon": (cartpole(horizon=True), ".horizon: True is not a whole number"),
    "another rule": (cartpole(success={"reward": 1}), f".success: {{'reward': 1}} is not {SUCCESS}."),
    "two rules": (cartpole(success={"return": 1, "info": "x"}), f" is not {SUCCESS}."),
    "an infinite threshold": (cartpole(success={"return": float("inf")}), f" is not {SUCCESS}."),
    "a slice out of range": (cartpole(observation=[1, 5]), ".observation: [1, 5] reaches past the 4 entries"),
    "an empty slice": (cartpole(observation=[2, 2]), ".observation: [2, 2] is not the first entry and the one after"),
    "an action too many": (cartpole(actions=[0, 2]), ".actions: 2 is none of the environment's, 0 to 1."),
    "an action twice": (cartpole(actions=[0, 0]), ".actions: [0, 0] is not a list of different whole numbers"),
    "a task of no name": (cartpole(name="a b"), ".name: 'a b' is not a name of at most 80 letters"),
    "groups that are no list": (cartpole(groups="a"), ".groups: 'a' is not a list of different names."),
    "an unknown ancestor": (cartpole(builds_on=["x"]), ".builds_on: 'x' is no other task of the suite; "),
    "a wrong argument": (cartpole(make={"gravty": 1}), ".id: 'CartPole-v1' cannot be made: "),
    "an argument of ours": (cartpole(make={"render_mode": "human"}), ".make: {'render_mode': 'human'} is not a"),
}  # fmt: skip


def refusal(tmp_path: Path, declaration: Any) -> str:
    """The sentence with which a file is refused, the file's name left out."""
    path = written(tmp_path, declaration)
    with pytest.raises(SuiteError) as caught:
        get_suite(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: ") and "\n" not in sentence
    return sentence.removeprefix(f"{path}: ")


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file_is_refused(case: str, tmp_path: Path) -> None:
    declaration, expected = MALFORMED[case]
    assert refusal(tmp_path, declaration).startswith(expected)


@pytest.mark.parametrize("case", WRONG_TASKS)
def test_a_wrong_task_is_refused(case: str, tmp_path: Path) -> None:
    task, expected = WRONG_TASKS[case]
    sentence = refusal(tmp_path, {"name": "a", "tasks": [cartpole(name="first"), task]})
    assert sentence.startswith("tasks[1]") and expected in sentence


def test_two_tasks_of_one_name_are_refused(tmp_path: Path) -> None:
    sentence = refusal(tmp_path, {"name": "a", "tasks": [cartpole(), cartpole()]})
    assert sentence.startswith("tasks[1].name: 'CartPole-v1' is also that of tasks[0]; ")


def test_two_kinds_of_actions_are_refused(tmp_path: Path) -> None:
    swing = {"id": "Pendulum-v1", "success": {"return": -200}}
    sentence = refusal(tmp_path, {"name": "a", "tasks": [cartpole(), swing]})
    assert sentence.startswith(
        "tasks[1].id: Pendulum-v1 has continuous actions and CartPole-v1 has discrete; "
    )
    sentence = refusal(tmp_path, {"name": "a", "actions": "continuous", "tasks": [cartpole()]})
    assert sentence.startswith(
        "tasks[0].id: CartPole-v1 has discrete actions and actions says continuous; "
    )


@pytest.mark.parametrize(
    "text", ["name: [", "name: a\nname: b\n", "tasks:\n  - id: a\n    id: b\n"]
)
def test_what_is_not_yaml_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    with pytest.raises(SuiteError, match="is not valid YAML"):
        get_suite(str(path))
    with pytest.raises(SuiteError, match=r"none\.yaml: cannot be read"):
        get_suite(str(tmp_path / "none.yaml"))


class Strange(gymnasium.Env):
    """Has whatever spaces it is given, and may begin differently each time."""

    def __init__(self, observations: Any, actions: Any, repeats: bool = True) -> None:
        self.observation_space, self.action_space = observations, actions
        self.repeats = repeats

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        if self.repeats:
            self.observation_space.seed(seed)
        return self.observation_space.sample(), {}


FLAT, TWO = Box(-1, 1, (3,)), Discrete(2)
IMAGE = Box(0, 255, (8, 8, 3), np.uint8)
STRANGE: dict[str, tuple[Strange, str]] = {
    "images": (Strange(IMAGE, TWO), "no images, texts or sequences"),
    "images among others": (Strange(Dict(a=FLAT, b=IMAGE), TWO), "no images, texts or sequences"),
    "texts": (Strange(Text(5), TWO), "no images, texts or sequences"),
    "several discrete actions": (Strange(FLAT, MultiDiscrete([2, 2])), "a suite takes Discrete, or a flat Box"),
    "unbounded actions": (Strange(FLAT, Box(-np.inf, np.inf, (2,))), "a suite takes Discrete, or a flat Box"),
    "whole numbers as actions": (Strange(FLAT, Box(0, 3, (2,), np.int64)), "a suite takes Discrete, or a flat Box"),
    "other beginnings": (Strange(FLAT, TWO, repeats=False), "begins differently after two resets with one seed"),
    "no limit": (Strange(FLAT, TWO), "horizon: is missing, and Strange-v0 has no limit of its own"),
}  # fmt: skip


@pytest.mark.parametrize("case", STRANGE)
def test_spaces_that_cannot_be_joined_are_refused_by_name(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env, expected = STRANGE[case]
    spec = gymnasium.envs.registration.EnvSpec("Strange-v0", entry_point=lambda: env)
    monkeypatch.setitem(gymnasium.registry, "Strange-v0", spec)
    task = cartpole(id="Strange-v0", horizon=None if case == "no limit" else 5)
    sentence = refusal(tmp_path, {"name": "a", "tasks": [task]})
    assert sentence.startswith("tasks[0].") and "Strange-v0" in sentence
    assert expected in sentence
