"""Staggered episodes: phases, and states in which no episode is at its first step."""

from __future__ import annotations

import numpy as np
import pytest

from mtrl.envs import SuiteError, make_vec
from mtrl.envs.vector import TaskVectorEnv

BACKENDS = ("native", "stock")


def staggered(backend: str, seed: int = 3) -> TaskVectorEnv:
    return make_vec("mt1:reach-v3", 4, backend=backend, seed=seed, stagger=True)


def ends(env: TaskVectorEnv, steps: int) -> list[list[int]]:
    """The steps, from 1, at which each environment's episodes end."""
    found: list[list[int]] = [[] for _ in range(env.num_envs)]
    for step in range(1, steps + 1):
        truncated = env.step(np.zeros((env.num_envs, 4), np.float32))[3]
        for index in np.flatnonzero(truncated):
            found[index].append(step)
    return found


@pytest.mark.parametrize("backend", BACKENDS)
def test_first_episodes_end_early_and_later_ones_do_not(backend: str) -> None:
    env = staggered(backend)
    env.reset()
    assert ends(env, 760) == [[500], [375], [250, 750], [125, 625]]
    env.reset()
    assert ends(env, 130) == [[], [], [], [125]]


def test_backends_agree_where_an_episode_ends_early() -> None:
    ours, theirs = (staggered(backend) for backend in BACKENDS)
    np.testing.assert_array_equal(ours.reset()[0], theirs.reset()[0])
    rng = np.random.default_rng(0)
    for _ in range(130):
        action = rng.uniform(-1, 1, (4, 4)).astype(np.float32)
        mine, stock = ours.step(action), theirs.step(action)
        np.testing.assert_array_equal(mine[0], stock[0])
        np.testing.assert_array_equal(mine[4]["final_obs"], stock[4]["final_obs"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_state_of_episodes_that_have_just_begun_continues_exactly(backend: str) -> None:
    env, other = staggered(backend), staggered(backend, seed=4)
    env.reset()
    state = env.state_dict()
    other.load_state_dict(state)
    assert ends(env, 130) == ends(other, 130)
    for name, value in env.state_dict().items():
        np.testing.assert_array_equal(value, other.state_dict()[name])


def test_back_in_the_first_phases_is_not_just_begun() -> None:
    env, other = staggered("stock"), staggered("stock")
    env.reset()
    ends(env, 500)
    other.load_state_dict(env.state_dict())
    with pytest.raises(SuiteError, match="rebase after loading a state"):
        other.step(np.zeros((4, 4), np.float32))


def test_one_environment_a_task_is_not_shifted() -> None:
    env = make_vec("mt1:reach-v3", seed=0, stagger=True)
    env.reset()
    assert ends(env, 501) == [[500]]


def test_minigrid_does_not_take_it() -> None:
    with pytest.raises(SuiteError, match="does not take stagger=True"):
        make_vec("mg3", stagger=True)
