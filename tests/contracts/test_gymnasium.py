"""What gymnasium and its wrappers may expect of every suite's default backend."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers.vector import (
    ClipReward,
    DictInfoToList,
    NormalizeReward,
    RecordEpisodeStatistics,
    RescaleAction,
)

from mtrl.envs import make_vec

SUITES = ["mt1:reach-v3"]


@pytest.fixture(params=SUITES)
def env(request):
    env = make_vec(request.param, 2, seed=1)
    yield env
    env.close()


class FirstOnly(gymnasium.Env):
    """A vector environment of one, seen as an environment."""

    def __init__(self, env):
        self.env = env
        self.observation_space, self.action_space = (
            env.single_observation_space,
            env.single_action_space,
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        obs, info = self.env.reset(seed=seed, options=options)
        return obs[0], info

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(np.asarray(action)[None])
        return obs[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), info


@pytest.mark.parametrize("suite", SUITES)
def test_gymnasiums_own_checker_passes(suite):
    env = make_vec(suite, 1)
    check_env(FirstOnly(env), skip_render_check=True)
    env.close()


def test_spaces_are_batched_and_hold_what_is_returned(env):
    assert isinstance(env, VectorEnv)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert env.observation_space.shape == (env.num_envs, *env.single_observation_space.shape)
    assert env.action_space.shape == (env.num_envs, *env.single_action_space.shape)
    env.action_space.seed(0)
    obs, info = env.reset()
    assert env.observation_space.contains(obs) and isinstance(info, dict)
    for _ in range(env.suite.horizon + 5):
        obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert env.observation_space.contains(obs) and env.observation_space.contains(
            info["final_obs"]
        )
        assert reward.shape == (env.num_envs,) and reward.dtype == np.float64
        for flags in (terminated, truncated, info["success"], info["_final_obs"]):
            assert flags.shape == (env.num_envs,) and flags.dtype == np.bool_


def rollout(env, seed, steps):
    env.action_space.seed(seed)
    rows = [env.reset(seed=seed)]
    rows += [env.step(env.action_space.sample()) for _ in range(steps)]
    return rows


def test_seeds_decide_everything(env):
    first, other, again = (rollout(env, seed, 20) for seed in (3, 4, 3))
    assert data_equivalence(first, again, exact=True)
    assert not data_equivalence(first[0], other[0])


def test_episodes_restart_within_the_step_that_ends_them(env):
    env.reset()
    still = np.zeros(env.action_space.shape, np.float32)
    for _ in range(env.suite.horizon - 1):
        obs, _, terminated, truncated, info = env.step(still)
        assert (
            not (terminated | truncated).any()
            and not info["_final_obs"].any()
            and "final_info" not in info
        )
        np.testing.assert_array_equal(info["final_obs"], obs)
    obs, _, terminated, truncated, info = env.step(still)
    assert (
        truncated.all()
        and not terminated.any()
        and info["_final_obs"].all()
        and info["_final_info"].all()
    )
    np.testing.assert_array_equal(info["final_info"]["success"], info["success"])
    assert (info["final_obs"] != obs).any(axis=1).all()
    after, _, _, truncated, info = env.step(still)
    assert not truncated.any() and not info["_final_obs"].any()
    # the observation holds the last two frames: the second follows the new episode's first
    np.testing.assert_array_equal(after[:, 18:36], obs[:, :18])


def test_what_is_returned_belongs_to_the_caller(env):
    obs, _ = env.reset()
    kept = obs.copy()
    first = env.step(env.action_space.sample())
    copies = [np.copy(part) for part in first[:4]] + [
        first[4]["final_obs"].copy(),
        first[4]["success"].copy(),
    ]
    env.step(env.action_space.sample())
    np.testing.assert_array_equal(obs, kept)
    for part, copy in zip([*first[:4], first[4]["final_obs"], first[4]["success"]], copies):
        np.testing.assert_array_equal(part, copy)
    for part in first[:4]:
        assert part.flags.writeable


def test_episode_statistics_count_every_step(env):
    wrapped, returns = RecordEpisodeStatistics(env), np.zeros(env.num_envs)
    wrapped.reset()
    for _ in range(2 * env.suite.horizon):
        _, reward, terminated, truncated, info = wrapped.step(env.action_space.sample())
        returns += reward
        ended = terminated | truncated
        if ended.any():
            np.testing.assert_allclose(info["episode"]["r"][ended], returns[ended])
            assert (info["episode"]["l"][ended] == env.suite.horizon).all()
            returns[ended] = 0
    assert wrapped.episode_count == 2 * env.num_envs


def test_episode_statistics_where_episodes_end_apart():
    """In MiniGrid goals end episodes, each environment's at a time of its own."""
    env = make_vec("mg1:Empty-Random-5x5", 2, seed=3)
    wrapped = RecordEpisodeStatistics(env)
    returns, lengths, episodes = np.zeros(2), np.zeros(2, int), np.zeros(2, int)
    apart, terminations = False, 0
    wrapped.reset()
    env.action_space.seed(0)
    for _ in range(6 * env.suite.horizon):
        _, reward, terminated, truncated, info = wrapped.step(env.action_space.sample())
        returns += reward
        lengths += 1
        ended = terminated | truncated
        if ended.any():
            np.testing.assert_allclose(info["episode"]["r"][ended], returns[ended])
            np.testing.assert_array_equal(info["episode"]["l"][ended], lengths[ended])
            returns[ended], lengths[ended] = 0, 0
        episodes += ended
        apart |= not ended.all() and ended.any()
        terminations += terminated.sum()
    env.close()
    assert (episodes >= 2).all() and apart and terminations > 0
    assert wrapped.episode_count == episodes.sum()


def test_infos_become_lists(env):
    wrapped = DictInfoToList(env)
    wrapped.reset()
    for step in range(1, env.suite.horizon + 1):
        infos = wrapped.step(env.action_space.sample())[-1]
        assert len(infos) == env.num_envs
        for info in infos:
            assert (
                ("final_info" in info) == ("final_obs" in info) == (step == env.suite.horizon)
            )
    assert set(infos[0]["final_info"]) <= set(infos[0])


def test_wrappers_stack(env):
    wrapped = RescaleAction(
        NormalizeReward(ClipReward(RecordEpisodeStatistics(env), 0.0, 1.0)), -2.0, 2.0
    )
    obs, _ = wrapped.reset(seed=2)
    assert obs.shape == env.observation_space.shape
    for _ in range(3):
        obs, reward, *_ = wrapped.step(env.action_space.sample())
    assert np.isfinite(obs).all() and np.isfinite(reward).all()
