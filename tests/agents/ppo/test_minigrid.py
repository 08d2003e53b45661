"""MTPPO on real MiniGrid tasks: it learns, it saves, and it says what it cannot take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mtrl.agents import MTPPO, AgentError
from mtrl.envs import TaskVectorEnv, make_vec

SMALL = {
    "width": 32,
    "channels": 8,
    "depth": 1,
    "rollout_per_task": 64,
    "minibatches": 2,
    "epochs": 2,
}


def _agent(env: TaskVectorEnv, **settings: object) -> MTPPO:
    return MTPPO(env, seed=1, device="cpu", **(SMALL | settings))


def _success(agent: MTPPO, env: TaskVectorEnv, steps: int) -> float:
    """Share of episodes solved by the deterministic policy in new levels."""
    obs, wins, episodes = env.reset(seed=123)[0], 0, 0
    for _ in range(steps):
        obs, _, terminated, truncated, info = env.step(
            agent.predict(obs, deterministic=True)[0]
        )
        wins, episodes = wins + info["success"].sum(), episodes + (terminated | truncated).sum()
    return float(wins / episodes)


def test_learns_to_cross_an_empty_room() -> None:
    agent = _agent(
        make_vec("mg1:Empty-Random-5x5", 8, seed=0),
        rollout_per_task=512, minibatches=4, epochs=4, learning_rate=3e-3, entropy_coef=0.01, kl_stop=None,
    ).learn(12_000)  # fmt: skip
    assert _success(agent, make_vec("mg1:Empty-Random-5x5", 8, seed=5), 120) > 0.9


@pytest.mark.parametrize("heads", ["multi-head", "one-hot"])
@pytest.mark.parametrize("aggregator", ["mean", "upgrad"])
def test_trains_on_words_masks_and_any_heads(heads: str, aggregator: str) -> None:
    env = make_vec("mg10", 2, seed=0)
    agent = _agent(env, heads=heads, aggregator=aggregator).learn(10 * 128)
    assert all(np.isfinite(value) for value in agent.metrics().values())
    obs = env.reset(seed=3)[0]
    assert obs.dtype == np.uint8
    few = np.flatnonzero(~env.action_mask.all(1))  # type: ignore[attr-defined]
    assert len(few)
    for _ in range(20):
        actions, _ = agent.predict(obs)
        assert env.action_mask[env.task_id, actions].all()  # type: ignore[attr-defined]
        obs = env.step(actions)[0]


def test_samples_stay_bytes() -> None:
    agent = _agent(make_vec("mg3", 2, seed=0))
    rollout = agent.collect()
    assert rollout.obs.dtype == rollout.next_obs.dtype == torch.uint8
    assert rollout.obs.shape == (1, 3, 32, 2, 148)


def test_continues_exactly_in_the_middle_of_episodes() -> None:
    whole, first = (_agent(make_vec("mg3", 2, seed=0)).learn(600) for _ in range(2))
    env = make_vec("mg3", 2, seed=0)
    env.load_state_dict(first.env.state_dict())
    second = _agent(env)
    second.load_state_dict(first.state_dict())
    for agent in (whole, second):
        agent.learn(1500)
    for name, tensors in whole.state.items():
        for key, tensor in tensors.items():
            assert torch.equal(tensor, second.state[name][key]), (name, key)


def test_saved_agents_predict_the_same(tmp_path: Path) -> None:
    agent = _agent(make_vec("mg10", 1, seed=0)).learn(640)
    agent.save(tmp_path / "agent.safetensors")
    loaded = MTPPO.load(tmp_path / "agent.safetensors", device="cpu")
    obs, ids = agent.env.reset(seed=9)[0], agent.env.task_id
    expected, _ = agent.predict(obs, deterministic=True, task_id=ids)
    assert np.array_equal(loaded.predict(obs, deterministic=True, task_id=ids)[0], expected)


def test_other_layouts_and_unknown_categories_are_refused() -> None:
    agent = _agent(make_vec("mg10", 1, seed=0))
    words = r"mg20 has observations of 156 entries, laid out otherwise than the 153 that this agent was built for"
    with pytest.raises(AgentError, match=words):
        agent.set_env(make_vec("mg20"))
    obs = agent.env.reset(seed=0)[0]
    bad = obs.copy()
    bad[4, -1] = 40
    with pytest.raises(
        AgentError,
        match=r"observation: mission token 40 at 152 is unknown; it must be below 34",
    ):
        agent.predict(bad)
    bad = obs.copy()
    bad[0, 0] = 11
    with pytest.raises(
        AgentError, match=r"observation: category 11 at 0 is unknown; it must be below 11"
    ):
        agent.predict(bad)
    with pytest.raises(AgentError, match=r"observation: float32 holds no categories"):
        agent.predict(obs.astype(np.float32))


def test_rollouts_longer_than_an_episode_cross_its_end() -> None:
    """Nothing leaks from the next episode: truncated ones bootstrap from their own last observation."""
    env = make_vec("mg1:MultiRoom-N2-S4", 2, seed=0)
    horizon = env.suite.horizon
    agent = _agent(env, rollout_per_task=2 * 3 * horizon)
    rollout = agent.collect()
    ended = rollout.done[0, 0, :, 0].nonzero().flatten()
    assert len(ended) >= 3
    assert (rollout.next_obs[0, 0, :-1, 0] != rollout.obs[0, 0, 1:, 0]).any(
        -1
    ).nonzero().flatten().tolist() == [
        step for step in ended.tolist() if step < 3 * horizon - 1
    ]
    agent.advance()
    assert all(np.isfinite(value) for value in agent.metrics().values())
