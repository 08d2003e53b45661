"""Copies of environments, by ``copy`` and by ``pickle`` in memory, as a larger program's processes make them."""

import copy
import pickle

import numpy as np
import pytest

from mtrl.envs import SuiteError, make_vec


def pickled(env):
    return pickle.loads(pickle.dumps(env))


def assert_same_steps(first, second, steps):
    for _ in range(steps):
        actions = first.action_space.sample()
        np.testing.assert_array_equal(actions, second.action_space.sample())
        ours, theirs = first.step(actions), second.step(actions)
        for one, other in zip(ours[:4], theirs[:4], strict=True):
            np.testing.assert_array_equal(one, other)
        for name in ("success", "final_obs", "_final_obs"):
            np.testing.assert_array_equal(ours[4][name], theirs[4][name])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled])
@pytest.mark.parametrize(
    ("suite", "settings"),
    [
        ("mt1:reach-v3", {"one_hot": True, "num_threads": 2}),
        ("mt1:door-open-v3", {"stagger": True, "goal_seed": 5}),
        ("mg3", {"num_threads": 2}),
    ],
)
def test_a_copy_in_the_middle_of_episodes_goes_on_as_the_original(suite, settings, duplicate):
    env = make_vec(suite, 2, seed=3, **settings)
    env.reset(seed=7)
    env.action_space.seed(1)
    for _ in range(30):
        env.step(env.action_space.sample())
    twin = duplicate(env)
    before = twin.state_dict()
    assert_same_steps(env, twin, 2)
    assert any((before[name] != value).any() for name, value in twin.state_dict().items())
    assert_same_steps(env, twin, 480)  # past the end of an episode
    np.testing.assert_array_equal(env.reset()[0], twin.reset()[0])
    env.close()
    twin.step(twin.action_space.sample())
    twin.close()


def test_a_copy_keeps_which_tasks_stand_still():
    env = make_vec("mg3", seed=3)
    env.reset()
    env.pause(np.array([True, False, True]))
    twin = copy.deepcopy(env)
    assert twin.paused.tolist() == [True, False, True]
    assert_same_steps(env, twin, 5)
    env.close(), twin.close()


def test_a_copy_before_the_first_reset_needs_one_too():
    env = make_vec("mt1:reach-v3", seed=3)
    twin = copy.deepcopy(env)
    with pytest.raises(SuiteError, match="reset"):
        twin.step(np.zeros((1, 4), np.float32))
    np.testing.assert_array_equal(env.reset()[0], twin.reset()[0])
    env.close(), twin.close()


@pytest.mark.parametrize("suite", ["mt1:reach-v3", "mg3"])
def test_what_cannot_be_copied_says_why(suite):
    env = make_vec(suite)
    env.reset()
    env.step_async(env.action_space.sample())
    with pytest.raises(SuiteError, match="between step_async and step_wait"):
        copy.deepcopy(env)
    env.step_wait()
    env.close()
    with pytest.raises(SuiteError, match="the environment is closed"):
        copy.deepcopy(env)
