"""Discrete SAC: exact expectations, masks, entropy targets, and learning on MiniGrid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtrl.agents import MTSAC, AgentError
from mtrl.agents.policies import Categorical
from mtrl.agents.sac.build import entropy_targets
from mtrl.agents.sac.update import alpha_gradient
from mtrl.envs import TaskVectorEnv, make_vec
from tests.agents.ppo.test_agent import DiscreteEnv

SMALL = {
    "width": 16,
    "channels": 4,
    "depth": 1,
    "batch_per_task": 8,
    "buffer_per_task": 400,
    "learning_starts": 20,
}


def _agent(env: TaskVectorEnv, **overrides: object) -> MTSAC:
    return MTSAC(env, seed=1, device="cpu", **(SMALL | overrides))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(1, 7))
def test_soft_value_is_the_expectation_over_the_actions_there_are(
    seed: int, available: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits, q = (
        torch.randn(1, 1, 1, 7, generator=generator),
        torch.randn(1, 2, 1, 1, 7, generator=generator),
    )
    policy = Categorical(torch.arange(7) < available)
    values, minus_entropy = policy.soft_value(
        logits, torch.empty(0), lambda action: q, torch.tensor([[0.3]])
    )
    value = values.item()
    p = np.exp(logits.flatten().double().numpy()[:available])
    p /= p.sum()
    expected = sum(
        p[a] * (q[0, :, 0, 0, a].min().item() - 0.3 * np.log(p[a])) for a in range(available)
    )
    assert value == pytest.approx(expected, abs=1e-5)
    assert minus_entropy.item() == pytest.approx(float((p * np.log(p)).sum()), abs=1e-5)
    assert (policy.features(logits)[..., available:] == 0).all()


def test_the_best_policy_for_given_values_is_a_softmax() -> None:
    """Equation of soft policy improvement: pi is proportional to exp(Q / alpha)."""
    q = torch.randn(1, 2, 1, 1, 5, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([True, True, True, True, False])
    logits = (q.amin(1) / 0.5).clone().requires_grad_()
    value, _ = Categorical(mask).soft_value(
        logits, torch.empty(0), lambda action: q, torch.tensor([[0.5]])
    )
    (grad,) = torch.autograd.grad(value.sum(), logits)
    assert grad.abs().max() < 1e-6
    best = 0.5 * torch.logsumexp(q.amin(1)[..., :4] / 0.5, -1)
    torch.testing.assert_close(value, best)


def test_taken_picks_each_critics_value_of_the_action() -> None:
    q = torch.arange(2 * 3 * 4.0).view(1, 2, 1, 3, 4)
    action = torch.tensor([[[3, 0, 2]]], dtype=torch.uint8)
    policy = Categorical(torch.ones(4, dtype=torch.bool))
    assert policy.taken(q, action).tolist() == [[[[3.0, 4.0, 10.0]], [[15.0, 16.0, 22.0]]]]


def test_entropy_targets_are_shares_of_each_tasks_own_maximum() -> None:
    targets = entropy_targets((7, 3), 0.5)
    assert targets.tolist() == pytest.approx([0.5 * np.log(7), 0.5 * np.log(3)])
    at_target = -targets.view(1, 2, 1).expand(-1, -1, 4)
    assert alpha_gradient(at_target, targets.view(1, 2, 1)).abs().max() == 0
    with pytest.raises(
        AgentError, match=r"target_entropy: -4.0 is out of range; for discrete actions"
    ):
        _agent(make_vec("mg3"), target_entropy=-4.0)


def test_learns_to_cross_an_empty_room() -> None:
    env = make_vec("mg1:Empty-Random-5x5", 8, seed=0)
    agent = _agent(
        env, width=32, batch_per_task=64, buffer_per_task=20_000, learning_starts=400, learning_rate=3e-3,
        initial_alpha=0.05, tau=0.02,
    ).learn(5_000)  # fmt: skip
    test = make_vec("mg1:Empty-Random-5x5", 8, seed=5)
    obs, wins, episodes = test.reset(seed=123)[0], 0, 0
    for _ in range(400):
        obs, _, terminated, truncated, info = test.step(agent.predict(obs)[0])
        wins, episodes = wins + info["success"].sum(), episodes + (terminated | truncated).sum()
    assert wins / episodes > 0.8  # before training none is won


@pytest.mark.parametrize(
    ("heads", "more"),
    [
        ("multi-head", {}),
        ("one-hot", {"aggregator": "pcgrad"}),
        ("separate", {}),
        ("separate", {"curriculum": "camrl:warmup=0,switch=false,round_steps=20"}),
    ],
)
def test_every_kind_of_heads_trains_and_keeps_to_the_masks(
    heads: str, more: dict[str, str]
) -> None:
    env = make_vec("mg10", 2, seed=0)
    mask = env.action_mask  # type: ignore[attr-defined]
    agent = _agent(env, heads=heads, **more).learn(10 * 50)
    assert all(np.isfinite(value) for value in agent.metrics().values())
    buffer = agent._collector()[1]
    batch = buffer.sample(200)
    assert batch.obs.dtype == batch.action.dtype == torch.uint8
    tasks = torch.arange(10).view(1, 10, 1).expand(-1, -1, 200)
    assert torch.from_numpy(mask)[tasks, batch.action.long()].all()
    obs = env.reset(seed=2)[0]
    for deterministic in (True, False):
        action, _ = agent.predict(obs, deterministic=deterministic)
        assert mask[env.task_id, action].all()


def test_observations_of_numbers_go_with_discrete_actions() -> None:
    agent = MTSAC(
        DiscreteEnv(), device="cpu", width=16, depth=1, batch_per_task=8, learning_starts=10
    ).learn(200)
    assert agent.gradient_steps > 0
    assert agent._collector()[1].sample(5).action.shape[-1] == 1


def test_continues_exactly(tmp_path: Path) -> None:
    whole, first = (_agent(make_vec("mg3", 2, seed=0)).learn(300) for _ in range(2))
    env = make_vec("mg3", 2, seed=0)
    env.load_state_dict(first.env.state_dict())
    second = _agent(env)
    second.load_state_dict(first.state_dict())
    for agent in (whole, second):
        agent.learn(600)
    for name, tensors in whole.state.items():
        for key, tensor in tensors.items():
            assert torch.equal(tensor, second.state[name][key]), (name, key)
    whole.save(tmp_path / "agent.safetensors")
    loaded, obs = (
        MTSAC.load(tmp_path / "agent.safetensors", device="cpu"),
        whole.env.reset(seed=4)[0],
    )
    both = [
        agent.predict(obs, deterministic=True, task_id=env.task_id)[0]
        for agent in (whole, loaded)
    ]
    assert np.array_equal(*both)
