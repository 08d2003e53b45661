"""Tasks that stand still while the others step, in every backend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mtrl.envs import SuiteError, TaskVectorEnv, make_vec

BACKENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "metaworld-native": ("mt10", {"num_threads": 2}),
    "metaworld-stock": ("mt10", {"backend": "stock", "num_workers": 0}),
    "metaworld-workers": ("mt10", {"backend": "stock", "num_workers": 2}),
    "minigrid-native": ("mg10", {}),
    "minigrid-stock": ("mg10", {"backend": "stock"}),
}
EACH = pytest.mark.parametrize("name", BACKENDS)


def _make(name: str) -> TaskVectorEnv:
    suite, settings = BACKENDS[name]
    env = make_vec(suite, 2, seed=3, **settings)
    env.reset()
    return env


Pair = tuple[TaskVectorEnv, TaskVectorEnv]


@pytest.fixture(scope="module", params=BACKENDS)
def made(request: pytest.FixtureRequest) -> Iterator[Pair]:
    pair = _make(request.param), _make(request.param)
    yield pair
    for env in pair:
        env.close()


@pytest.fixture
def pair(made: Pair) -> Pair:
    """Two equal environments as new, which takes less long than making them."""
    for env in made:
        env.reset(seed=3)
    return made


def _actions(env: TaskVectorEnv, step: int) -> NDArray:
    env.action_space.seed(step)
    return env.action_space.sample()


def _step(env: TaskVectorEnv, actions: NDArray) -> list[NDArray]:
    obs, reward, terminated, truncated, info = env.step(actions)
    return [obs, reward, terminated, truncated, info["success"], info["final_obs"]]


def test_a_paused_task_goes_on_where_it_stood_and_the_others_never_notice(pair: Pair) -> None:
    env, plain = pair
    still = np.zeros(env.num_tasks, bool)
    still[[0, 3]] = True
    rows = still[env.task_id]
    expected = [_step(plain, _actions(plain, step)) for step in range(60)]
    for step in range(20):
        last = _step(env, _actions(env, step))
    env.pause(still)
    for step in range(20, 40):
        values = _step(env, _actions(env, step))
        for value, wanted in zip(values, expected[step], strict=True):
            np.testing.assert_array_equal(value[~rows], wanted[~rows])
        obs, *zeros, final_obs = values
        np.testing.assert_array_equal(obs[rows], last[0][rows])
        np.testing.assert_array_equal(final_obs[rows], last[0][rows])
        assert not any(value[rows].any() for value in zeros)
    env.pause(~still)
    for step in range(20, 40):
        for value, wanted in zip(_step(env, _actions(env, step)), expected[step], strict=True):
            np.testing.assert_array_equal(value[rows], wanted[rows])
    env.pause(np.zeros(env.num_tasks, bool))
    for step in range(40, 60):
        for value, wanted in zip(_step(env, _actions(env, step)), expected[step], strict=True):
            np.testing.assert_array_equal(value, wanted)


def test_episodes_start_in_paused_tasks_too_and_the_state_remembers_who_pauses(
    pair: Pair,
) -> None:
    env, other = pair
    still = np.zeros(env.num_tasks, bool)
    still[1] = True
    rows = still[env.task_id]
    env.pause(still)
    obs = env.rebase(7)
    values = _step(env, _actions(env, 0))
    np.testing.assert_array_equal(values[0][rows], obs[rows])
    np.testing.assert_array_equal(values[-1][rows], obs[rows])
    if not env.exact_state:
        obs = env.rebase(8)
    other.load_state_dict(env.state_dict())
    assert other.paused.tolist() == still.tolist()
    for step in range(3):
        ours, theirs = _step(env, _actions(env, step)), _step(other, _actions(env, step))
        for value, wanted in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(value, wanted)
        np.testing.assert_array_equal(ours[0][rows], obs[rows])
    env.reset()
    assert not env.paused.any()  # whoever gets this environment next finds all tasks moving
    seen = [_step(env, _actions(env, step))[0][rows] for step in range(20)]
    assert not all(np.array_equal(each, seen[0]) for each in seen)


def test_a_state_of_before_there_were_pauses_is_refused(pair: Pair) -> None:
    env, _ = pair
    state = env.state_dict()
    del state["paused"]
    with pytest.raises(SuiteError, match="it lacks paused"):
        env.load_state_dict(state)


@EACH
def test_a_wrong_choice_of_tasks_is_refused(name: str) -> None:
    env = _make(name)
    for tasks in (np.zeros(3, bool), np.zeros(10)):
        with pytest.raises(
            SuiteError, match=r"pause: tasks must be bool of shape \(10,\), not"
        ):
            env.pause(tasks)
    env.step_async(_actions(env, 0))
    with pytest.raises(SuiteError, match="pause between step_async and step_wait"):
        env.pause(np.zeros(10, bool))
    env.step_wait()
    env.close()
    with pytest.raises(SuiteError, match="pause after close"):
        env.pause(np.zeros(10, bool))
