"""Our environments under the real Stable-Baselines3, and its algorithms behind our interface."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from mtrl.envs import make_vec
from mtrl.sb3 import SB3PPO, SB3SAC, SB3VecEnv

SUITES = ["mt1:reach-v3", "mt10", "mg3"]


@pytest.fixture(params=SUITES)
def vec(request: pytest.FixtureRequest) -> Iterator[SB3VecEnv]:
    adapter = SB3VecEnv(make_vec(request.param, 2, seed=1))
    yield adapter
    adapter.close()


def actions(vec: Any) -> np.ndarray:
    return np.array([vec.action_space.sample() for _ in range(vec.num_envs)])


def test_spaces_hold_what_comes_back(vec: SB3VecEnv) -> None:
    vec.action_space.seed(0)
    obs = vec.reset()
    assert isinstance(vec.observation_space, Box)
    for _ in range(30):
        assert obs.shape == (vec.num_envs, *vec.observation_space.shape)
        assert obs.dtype == vec.observation_space.dtype
        assert all(vec.observation_space.contains(row) for row in obs)
        obs, reward, done, infos = vec.step(actions(vec))
        assert reward.shape == done.shape == (vec.num_envs,)
        assert (reward.dtype, done.dtype) == (np.float32, np.bool_)
        assert (
            [info["task_id"] for info in infos]
            == vec.get_attr("task_id")
            == list(vec.env.task_id)
        )


def test_the_task_is_in_the_observation(vec: SB3VecEnv) -> None:
    tasks = vec.env.num_tasks
    code = vec.reset()[:, -tasks:]
    if tasks > 1:
        np.testing.assert_array_equal(code, np.eye(tasks)[vec.env.task_id])
    assert vec.get_attr("task_name", 0) == [vec.env.suite.task_names[0]]


def test_categories_are_one_hot() -> None:
    vec = SB3VecEnv(make_vec("mg3", seed=1))
    raw = vec.env.reset(seed=1)[0]
    rows = vec.observed(raw)[:, : -vec.env.num_tasks]
    start = 0
    for column, size in enumerate(vec.encoding.categories):
        part = rows[:, start : start + size]
        np.testing.assert_array_equal(part, np.eye(size)[raw[:, column]])
        start += size
    assert start == rows.shape[1]
    vec.close()


@pytest.mark.parametrize("suite", ["mt1:reach-v3", "mg3"])
def test_episodes_end_as_sb3_expects(suite: str) -> None:
    vec, twin = SB3VecEnv(make_vec(suite, 2, seed=3)), make_vec(suite, 2, seed=3)
    vec.action_space.seed(0)
    vec.seed(5)
    np.testing.assert_array_equal(vec.reset(), vec.observed(twin.reset(seed=5)[0]))
    ever, ends, terminations = np.zeros(vec.num_envs, bool), 0, 0
    for _ in range(twin.suite.horizon + 10):
        action = actions(vec)
        obs, reward, done, infos = vec.step(action)
        raw, raw_reward, terminated, truncated, info = twin.step(action)
        np.testing.assert_array_equal(obs, vec.observed(raw))
        np.testing.assert_array_equal(reward, raw_reward.astype(np.float32))
        np.testing.assert_array_equal(done, terminated | truncated)
        ever |= info["success"]
        last = vec.observed(info["final_obs"])
        for row in range(vec.num_envs):
            assert (
                ("terminal_observation" in infos[row])
                == ("TimeLimit.truncated" in infos[row])
                == done[row]
            )
            if done[row]:
                np.testing.assert_array_equal(infos[row]["terminal_observation"], last[row])
                assert infos[row]["TimeLimit.truncated"] == (
                    truncated[row] and not terminated[row]
                )
                assert infos[row]["is_success"] == ever[row]
        ends, terminations = ends + done.sum(), terminations + terminated.sum()
        ever[done] = False
    assert ends >= vec.num_envs
    assert (terminations > 0) == (suite == "mg3")
    vec.close()
    twin.close()


def test_a_seed_decides_the_episodes(vec: SB3VecEnv) -> None:
    # Seed 1 is that of the fixture: its goals and their resets are at hand.
    first, other, again = ((vec.seed(seed), vec.reset())[1] for seed in (3, 1, 3))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(vec.reset(), again)  # a seed holds for one reset


def test_attributes_and_methods(vec: SB3VecEnv) -> None:
    assert vec.get_attr("backend", [0, 1]) == ["native", "native"]
    assert vec.has_attr("suite") and not vec.has_attr("nonsense")
    vec.set_attr("color", "red")
    assert vec.get_attr("color", 0) == ["red"]
    with pytest.raises(ValueError, match="indices"):
        vec.set_attr("color", "blue", indices=0)
    vec.reset()
    assert set(vec.env_method("state_dict", indices=[0])[0]) == set(vec.env.state_dict())
    assert vec.env_is_wrapped(VecMonitor) == [False] * vec.num_envs


def test_rendering_tiles_the_environments() -> None:
    vec = SB3VecEnv(make_vec("mg1:Empty-5x5", 4, render_mode="rgb_array"))
    vec.reset()
    frames = vec.get_images()
    assert len(frames) == 4 and frames[0] is not None
    picture = vec.render()
    assert picture is not None and picture.shape == (
        2 * frames[0].shape[0],
        2 * frames[0].shape[1],
        3,
    )
    vec.close()


def test_a_suite_of_rooms_of_different_sizes_is_rendered() -> None:
    vec = SB3VecEnv(make_vec("mg3", 1, render_mode="rgb_array"))
    vec.reset()
    picture = vec.render()
    assert picture is not None and picture.shape == (2 * 352, 2 * 384, 3)
    vec.close()


def test_sb3s_wrappers_stack() -> None:
    vec = VecNormalize(VecMonitor(SB3VecEnv(make_vec("mg3", seed=1))))
    vec.reset()
    seen: list[dict[str, float]] = []
    for _ in range(400):
        obs, _, _, infos = vec.step(actions(vec))
        seen += [info["episode"] for info in infos if "episode" in info]
    assert np.isfinite(obs).all()
    assert seen and all(
        1 <= episode["l"] <= vec.unwrapped.env.suite.horizon for episode in seen
    )
    vec.close()


def stock(kind: str, suite: str) -> tuple[Any, Any]:
    """An SB3 model made as its users make it, and our agent with the same settings."""
    vec, env = SB3VecEnv(make_vec(suite, 2, seed=0)), make_vec(suite, 2, seed=0)
    if kind == "ppo":
        settings: dict[str, Any] = {"n_steps": 100, "batch_size": 50, "n_epochs": 2}
        return PPO("MlpPolicy", vec, seed=7, device="cpu", **settings), SB3PPO(
            env, seed=7, device="cpu", **settings
        )
    settings = {"buffer_size": 5_000, "batch_size": 32}
    return SAC("MlpPolicy", vec, seed=7, device="cpu", **settings), SB3SAC(
        env, seed=7, device="cpu", **settings
    )


@pytest.mark.parametrize(
    ("kind", "suite", "steps"), [("ppo", "mg3", 1_200), ("sac", "mt1:reach-v3", 300)]
)
def test_our_loop_is_sb3s_learn(kind: str, suite: str, steps: int) -> None:
    model, agent = stock(kind, suite)
    model.learn(steps)
    torch.manual_seed(123)  # neither reads nor disturbs anybody's streams
    before = torch.get_rng_state()
    agent.learn(steps)
    assert torch.equal(before, torch.get_rng_state())
    assert agent.env_steps == model.num_timesteps == steps
    ours, theirs = agent.model.policy.state_dict(), model.policy.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
    assert agent.gradient_steps > 0
    assert any(key.startswith("train/") for key in agent.metrics())


@pytest.mark.parametrize(("algorithm", "suite"), [(PPO, "mt10"), (PPO, "mg3"), (SAC, "mt10")])
def test_sb3_trains_and_is_evaluated_in_the_adapter(algorithm: Any, suite: str) -> None:
    vec = VecMonitor(SB3VecEnv(make_vec(suite, seed=0)))
    settings = (
        {"n_steps": 256} if algorithm is PPO else {"batch_size": 16, "learning_starts": 1_500}
    )
    model = algorithm("MlpPolicy", vec, seed=0, device="cpu", **settings)
    model.learn(2_000)
    assert model.num_timesteps >= 2_000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mean, _ = evaluate_policy(model, vec, n_eval_episodes=vec.num_envs)
    assert np.isfinite(mean)
    vec.close()
