"""MTPPO as a user of the class meets it: learn, predict, save, load, resume, refuse."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from mtrl.agents import MTPPO, AgentError, DivergedError
from mtrl.agents.state import join_state, split_state
from tests.helpers import fakes

SMALL: dict[str, Any] = {"width": 16, "rollout_per_task": 40, "epochs": 2, "minibatches": 4}


class DiscreteEnv(fakes.FakeEnv):
    """The fake tasks pushed by buttons: left, right, stay; the second task has no stay."""

    def __init__(self, suite: str = "mt10:fake", envs_per_task: int = 2) -> None:
        spec = fakes.get_suite(suite)
        super().__init__(spec, envs_per_task, 0, "random", 0, 0.0)
        self.single_action_space = Discrete(3)
        tasks = [
            dataclasses.replace(t, num_actions=2 if i == 1 else 3)
            for i, t in enumerate(spec.tasks)
        ]
        self.suite = dataclasses.replace(spec, tasks=tuple(tasks), discrete=True)

    def step_async(self, actions: NDArray) -> None:
        assert actions.dtype == np.int64 and actions.shape == (self.num_envs,)
        assert not ((actions == 2) & (self.task_id == 1)).any()
        super().step_async(np.array([-1.0, 1.0, 0.0])[actions][:, None])


def _env(suite: str = "mt10:fake", envs_per_task: int = 2, seed: int = 0) -> fakes.FakeEnv:
    return fakes.FakeEnv(fakes.get_suite(suite), envs_per_task, seed, "random", 0, 0.0)


def _agent(seed: int = 0, **settings: Any) -> MTPPO:
    return MTPPO(_env(seed=seed), seed=seed, device="cpu", **SMALL | settings)


def _tensors(agent: MTPPO) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in split_state(agent.state_dict())[0].items()}


def test_learn_counts_env_steps_over_tasks_and_ends_after_whole_rollouts() -> None:
    agent = _agent().learn(200)
    assert agent.env_steps == 240  # rollouts of 3 tasks x 40 env steps
    assert agent.gradient_steps == 2 * 2 * 4


@pytest.mark.parametrize("settings", [{}, {"heads": "one-hot"}, {"aggregator": "pcgrad"}])
def test_equal_seeds_give_equal_runs_and_different_seeds_do_not(
    settings: dict[str, Any],
) -> None:
    first, second, other = (_tensors(_agent(seed, **settings).learn(240)) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["networks/actor/params"], other["networks/actor/params"])


@pytest.mark.parametrize("suite", ["mt10:fake", "mt10:fake-inexact"])
def test_a_restored_agent_continues_bit_for_bit(suite: str) -> None:
    settings = SMALL | {
        "aggregator": "graddrop",
        "noise_correlation": 0.7,
        "noise_by_failure": True,
    }
    agents = [MTPPO(_env(suite), seed=0, device="cpu", **settings) for _ in range(2)]
    agents[0].learn(360)
    if not agents[0].env.exact_state:
        agents[0].rebase(agents[0].env_steps)
    tensors, values = split_state(agents[0].state_dict())
    agents[1].env.load_state_dict(agents[0].env.state_dict())
    agents[1].load_state_dict(
        join_state({name: tensor.clone() for name, tensor in tensors.items()}, values)
    )
    first, second = (_tensors(agent.learn(720)) for agent in agents)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_evaluating_and_logging_change_nothing_in_training() -> None:
    plain, watched = _agent().learn(240), _agent().learn(240)
    watched.predict(np.ones((6, 3), np.float32), deterministic=True)
    watched.metrics()
    watched.check_finite()
    first, second = _tensors(plain.learn(480)), _tensors(watched.learn(480))
    assert all(
        torch.equal(first[name], second[name])
        for name in first
        if not name.startswith("episodes")
    )


def _noise(agent: MTPPO) -> torch.Tensor:
    """The exploration noise of 400 steps of 40 environments a task, ``[400, 1, 3, 40, 4]``."""
    generator = torch.Generator().manual_seed(0)
    fresh = [torch.randn((1, 3, 40, 4), generator=generator) for _ in range(400)]
    return torch.stack([agent._next_noise(step) for step in fresh])


def test_exploration_noise_has_the_correlation_asked_for_and_unit_variance() -> None:
    agent = _agent(noise_correlation=0.8)
    noise = _noise(agent)
    assert noise.std().item() == pytest.approx(1, abs=0.02)
    assert (noise[1:] * noise[:-1]).mean().item() == pytest.approx(0.8, abs=0.02)
    assert (noise[3:] * noise[:-3]).mean().item() == pytest.approx(0.8**3, abs=0.03)
    agent.set_env(_env())
    assert agent._noise is None


def test_the_correlation_of_noise_shrinks_with_the_success_of_each_task_until_noise_is_independent() -> (
    None
):
    agent = _agent(noise_correlation=0.9, noise_until=0.5, noise_by_failure=True)
    _, episodes, _ = agent._collector()
    episodes.recent_success[:] = 0.0, 0.5, 1.0
    agent.begin(1_000)
    for steps, expected in ((499, [0.9, 0.45, 0.0]), (500, [0.0, 0.0, 0.0])):
        agent.env_steps = steps
        noise = _noise(agent)
        found = (noise[1:] * noise[:-1]).mean((0, 1, 3, 4))
        torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=0.02)
        assert noise.std((0, 1, 3, 4)).numpy() == pytest.approx(1, abs=0.02)
        assert ("noise" in agent.state_dict()) == (max(expected) > 0)


@pytest.mark.parametrize("which", ["mean", "mode"])
def test_the_deterministic_action_is_the_average_of_those_sampled_or_the_likeliest(
    which: str,
) -> None:
    agent = _agent(deterministic_action=which)
    # Means near the bounds, where clipping bends the average.
    agent.state["actor"]["params"] *= 30
    row, task = np.linspace(-1, 1, 9, dtype=np.float32).reshape(3, 3), np.arange(3)
    chosen, _ = agent.predict(row, deterministic=True, task_id=task)
    many, ids = np.repeat(row, 20_000, 0), np.repeat(task, 20_000)
    low, high = agent.spec.action_low, agent.spec.action_high
    sampled = np.clip(agent.predict(many, task_id=ids)[0], low, high).reshape(3, 20_000, -1)
    expected = sampled.mean(1) if which == "mean" else np.median(sampled, 1)
    np.testing.assert_allclose(np.clip(chosen, low, high), expected, atol=0.05)
    assert np.abs(sampled.mean(1) - np.median(sampled, 1)).max() > 0.1


def test_the_true_last_observation_is_stored_and_truncation_is_not_termination() -> None:
    agent = _agent(normalize_obs=False, rollout_per_task=2 * fakes.HORIZON)
    rollout = agent.collect()
    torch.testing.assert_close(
        rollout.next_obs[..., 2], rollout.obs[..., 2] + 1 / fakes.HORIZON
    )
    assert not rollout.terminated.any() and rollout.done.sum() == 6
    assert rollout.done[0, :, -1].all()


def test_each_row_of_a_rollout_belongs_to_its_task_and_environment() -> None:
    agent = _agent(normalize_obs=False)
    goals = np.unique(agent.env.reset(seed=0)[0][:, 1])
    rollout = agent.collect()
    assert rollout.obs.shape == (1, 3, 20, 2, 3)
    assert len(goals) == 6 and np.array_equal(np.unique(rollout.obs[0, :, :, :, 1]), goals)
    # The goal of an environment stays the same in an episode.
    assert (rollout.obs[0, :, :, :, 1].std(1) == 0).all()
    torch.testing.assert_close(rollout.next_obs[:, :, :-1], rollout.obs[:, :, 1:])


def test_the_learning_rate_falls_to_zero_over_the_budget() -> None:
    rates = []
    _agent().learn(480, lambda a: rates.append(a.metrics()["train/learning_rate"]))
    np.testing.assert_allclose(rates, [5e-4, 3.75e-4, 2.5e-4, 1.25e-4], rtol=1e-5)
    constant = _agent(schedule="constant").learn(480)
    assert constant.metrics()["train/learning_rate"] == pytest.approx(5e-4)


def test_it_learns_the_fake_tasks() -> None:
    env = _env(envs_per_task=8, seed=3)
    settings = SMALL | {
        "width": 32,
        "rollout_per_task": 160,
        "epochs": 10,
        "noise_correlation": 0.0,
    }
    agent = MTPPO(env, seed=3, device="cpu", **settings, learning_rate=3e-3, gamma=0.8)
    agent.learn(6_240)
    agent.metrics()
    agent.learn(7_200)
    assert agent.metrics()["rollout/success_rate"] > 0.95


def test_it_learns_discrete_tasks_and_never_takes_a_missing_action() -> None:
    env = DiscreteEnv(envs_per_task=8)
    agent = MTPPO(
        env,
        seed=0,
        device="cpu",
        width=32,
        rollout_per_task=160,
        minibatches=4,
        learning_rate=3e-3,
        gamma=0.8,
    )
    agent.learn(6_240)
    action, _ = agent.predict(
        np.array([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]], np.float32),
        task_id=np.array([1, 1]),
        deterministic=True,
    )
    assert action.tolist() == [1, 0]
    agent.metrics()
    agent.learn(7_200)
    assert agent.metrics()["rollout/success_rate"] > 0.95


def test_actions_reach_the_environment_within_its_bounds() -> None:
    env = _env()
    env.single_action_space = Box(
        np.array([0.0, -4.0], np.float32), np.array([10.0, 0.0], np.float32)
    )
    agent = MTPPO(env, seed=0, device="cpu", **SMALL, initial_std=3.0)
    action, _ = agent.predict(np.zeros((600, 3), np.float32), task_id=np.zeros(600, np.int64))
    assert action.dtype == np.float32
    assert action.min(0).tolist() == [0.0, -4.0] and action.max(0).tolist() == [10.0, 0.0]
    middle, _ = agent.predict(np.zeros((6, 3), np.float32), deterministic=True)
    np.testing.assert_allclose(middle, np.tile([5.0, -2.0], (6, 1)), atol=0.5)


def test_prediction_uses_the_statistics_of_training_and_leaves_them_alone() -> None:
    agent = _agent().learn(240)
    before = split_state(agent.state_dict())[0]
    obs = np.full((6, 3), 5.0, np.float32)
    assert np.array_equal(
        agent.predict(obs, deterministic=True)[0], agent.predict(obs, deterministic=True)[0]
    )
    after = split_state(agent.state_dict())[0]
    assert all(
        torch.equal(before[name], after[name])
        for name in before
        if name.startswith("normalizer")
    )
    batched, _ = agent.predict(obs, deterministic=True)
    single, _ = agent.predict(obs[2], task_id=np.array([1]), deterministic=True)
    np.testing.assert_allclose(single, batched[2], rtol=1e-5)


@pytest.mark.parametrize("kind", [fakes.FakeEnv, DiscreteEnv])
def test_a_saved_agent_predicts_the_same_and_goes_on_learning(
    tmp_path: Path, kind: type
) -> None:
    env = _env() if kind is fakes.FakeEnv else DiscreteEnv()
    agent = MTPPO(env, seed=0, device="cpu", **SMALL).learn(240)
    agent.save(tmp_path / "agent.safetensors")
    loaded = MTPPO.load(tmp_path / "agent.safetensors", device="cpu")
    obs = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    tasks = np.repeat(np.arange(3), 2)
    expected, _ = agent.predict(obs, deterministic=True, task_id=tasks)
    assert np.array_equal(loaded.predict(obs, deterministic=True, task_id=tasks)[0], expected)
    with pytest.raises(AgentError, match="set_env"):
        loaded.learn(480)
    loaded.set_env(env)
    assert loaded.learn(480).env_steps == 480


def test_nan_is_reported_by_name() -> None:
    agent = _agent().learn(120)
    agent.state["critic"]["params"][0, 5] = float("nan")
    with pytest.raises(DivergedError, match=r"critic\.params"):
        agent.check_finite()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rat": 1.0}, "learning_rat.*did you mean 'learning_rate'"),
        ({"learning_rate": 0.0}, "learning_rate: 0.0"),
        ({"kl_stop": -1.0}, "kl_stop: -1.0"),
        ({"gae_lambda": 1.5}, "gae_lambda: 1.5 .* at least 0 and at most 1"),
        ({"popart_step": 2.0}, "popart_step: 2.0 .* at least 0 and at most 1"),
        ({"entropy_coef": -0.1}, "entropy_coef: -0.1 is not a number of at least 0"),
        ({"advantage_floor": -0.1}, "advantage_floor: -0.1 is not a number of at least 0"),
        (
            {"noise_until": 1.5},
            "noise_until: 1.5 is not a number of at least 0 and at most 1 or none",
        ),
        (
            {"noise_until": 0.5, "schedule": "constant"},
            "noise_until: 0.5 never comes .* schedule=linear",
        ),
        ({"epochs": 0}, "epochs: 0"),
        ({"minibatches": 41}, "minibatches: 41 .* 40 samples per task"),
        (
            {"rollout_per_task": 41},
            "rollout_per_task: 41 is not a multiple of the 2 environments",
        ),
        ({"heads": "multihead"}, "heads: 'multihead'.*multi-head"),
        ({"critic_activation": "gelu"}, "critic_activation: 'gelu'.*layer_norm"),
        ({"actor_aggregator": "famo"}, "actor_aggregator: 'famo' takes logarithms"),
        ({"aggregator": "pcgard"}, "did you mean 'pcgrad'"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(AgentError, match=message):
        _agent(**settings)


def test_agents_refuse_suites_they_cannot_act_in() -> None:
    unbounded = _env()
    unbounded.single_action_space = Box(-np.inf, np.inf, (2,))
    with pytest.raises(AgentError, match="bounded flat Box, or Discrete"):
        MTPPO(unbounded, device="cpu")
    with pytest.raises(
        AgentError, match="has discrete actions, but this agent was built for continuous ones"
    ):
        _agent().set_env(DiscreteEnv())
