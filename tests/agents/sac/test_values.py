"""Categorical critics, scales of rewards, one temperature, weight decay and resets of MTSAC."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtrl.agents import MTPPO, MTSAC, AgentError
from mtrl.agents.aggregators import parse_aggregator
from mtrl.agents.data.rewards import ReturnScale, RewardBalance
from mtrl.agents.files import read_state, write_state
from mtrl.agents.optim.adam import AdamSettings, decay
from mtrl.agents.optim.task_gradients import Reduction
from mtrl.agents.policies import Categorical, SquashedGaussian
from mtrl.agents.sac.update import init_sac, sac_update
from mtrl.agents.sac.values import CategoricalValue, join
from mtrl.agents.seeds import Seeds
from mtrl.agents.state import split_state
from tests.agents.ppo.test_agent import DiscreteEnv
from tests.agents.sac.test_update import ACTIONS, OBS, SPEC, TASKS, _draws, _settings
from tests.helpers import fakes
from tests.helpers.networks import mlp

SHORT: dict[str, Any] = {
    "width": 16,
    "learning_starts": 8,
    "batch_per_task": 8,
    "buffer_per_task": 64,
    "precision": "fp32",
}
FULL: dict[str, Any] = {
    "network": "bro:blocks=1,embedding=4",
    "value": "categorical:atoms=21",
    "target_twins": "mean",
    "actor_twins": "mean",
    "reward_scale": "return",
    "shared_alpha": True,
    "weight_decay": 1e-2,
    "resets": 2,
    "reset_updates": 3,
}
S, T, B, N = 2, 3, 4, 21


def _agent(seed: int = 1, discrete: bool = False, **settings: Any) -> Any:
    env: Any = (
        DiscreteEnv()
        if discrete
        else fakes.FakeEnv(fakes.get_suite("mt10:fake"), 2, seed, "random", 0, 0.0)
    )
    return MTSAC(env, seed=seed, device="cpu", **SHORT | settings)


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def _mean(value: CategoricalValue, probs: Tensor) -> Tensor:
    return probs @ value.support(probs)


def test_a_projected_distribution_has_the_mean_of_what_was_projected() -> None:
    value = CategoricalValue(atoms=N, low=-5, high=5)
    values, weights = _normal(S, T, B, 7).clamp(-5, 5), _normal(S, T, B, 7).softmax(-1)
    probs = value.project(values, weights)
    assert (probs >= 0).all()
    torch.testing.assert_close(probs.sum(-1), torch.ones(S, T, B))
    torch.testing.assert_close(_mean(value, probs), (values * weights).sum(-1))


def test_one_value_is_split_between_its_two_atoms_and_the_range_is_the_limit() -> None:
    value = CategoricalValue(atoms=5, low=-2, high=2)
    values = torch.tensor([[0.25], [2.0], [9.0], [-9.0]])
    probs = value.project(values, torch.ones_like(values))
    wanted = [[0, 0, 0.75, 0.25, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [1.0, 0, 0, 0, 0]]
    torch.testing.assert_close(probs, torch.tensor(wanted))


@pytest.mark.parametrize("twins", ["min", "mean", "first"])
@pytest.mark.parametrize("targets", ["projected", "two-hot"])
@pytest.mark.parametrize("discrete", [False, True])
def test_the_target_distributions_mean_is_the_soft_target(
    discrete: bool, targets: Any, twins: Any
) -> None:
    # Wide enough that no atom leaves the range.
    value = CategoricalValue(atoms=N, low=-50, high=50, targets=targets)
    actions = 3 if discrete else 1
    policy: Any = SquashedGaussian(SPEC)
    if discrete:
        mask = torch.tensor([[True, True, True], [True, True, False], [True, True, True]])
        policy = Categorical(mask.view(1, T, 1, actions))
    outputs = _normal(S, 2, T, B, actions * N) - 0.02 * torch.linspace(
        -50, 50, N
    ).square().repeat(actions)
    if twins == "min":
        # Where the minimum of the values is one critic's for all actions, it is that of the distributions too.
        outputs[:, 1] = outputs[:, 0].unflatten(-1, (actions, N)).roll(1, -1).flatten(-2)
    output, noise = _normal(S, T, B, policy.num_outputs), _normal(S, T, B, 2)
    alpha, reward = _normal(S, T).exp(), _normal(S, T, B)
    discount = 0.9 * (_normal(S, T, B + 1)[..., :B] > 0)

    def critics(action: Tensor | None) -> Tensor:
        return outputs

    target = value.target(policy, output, noise, critics, alpha, reward, discount, twins)
    soft, _ = policy.soft_value(
        output, noise, lambda action: join(value.mean(critics(action)), twins), alpha
    )
    assert target.shape == (S, T, B, N)
    torch.testing.assert_close(
        _mean(value, target), reward + discount * soft, rtol=1e-3, atol=1e-2
    )


@pytest.mark.parametrize("discrete", [False, True])
def test_cross_entropy_is_least_where_the_critics_give_the_target(discrete: bool) -> None:
    value, actions = CategoricalValue(atoms=N), 3 if discrete else 1
    policy: Any = SquashedGaussian(SPEC)
    action = _normal(S, T, B, 2)
    if discrete:
        policy = Categorical(torch.ones(1, T, 1, actions, dtype=torch.bool))
        action = torch.tensor([0, 2, 1, 2]).expand(S, T, B)
    target = _normal(S, T, B, N).softmax(-1)
    outputs = target.log().unsqueeze(1).repeat(1, 2, 1, 1, actions).requires_grad_()
    losses, q = value.losses(policy, outputs, action, target)
    (grad,) = torch.autograd.grad(losses.sum(), outputs)
    torch.testing.assert_close(grad, torch.zeros_like(grad), rtol=0, atol=1e-6)
    entropy = -(target * target.log()).sum(-1).mean(-1)
    torch.testing.assert_close(losses, 2 * entropy)
    torch.testing.assert_close(q, _mean(value, target).unsqueeze(1).expand(-1, 2, -1, -1))


@pytest.mark.parametrize("targets", ["projected", "two-hot"])
def test_a_categorical_critic_learns_the_values_of_a_fixed_batch(targets: Any) -> None:
    plain, value = _settings(), CategoricalValue(atoms=51, low=-5, high=5, targets=targets)
    critic = mlp(OBS + ACTIONS, 16, 2, value.num_outputs, TASKS)
    tasks = Reduction(critic, parse_aggregator("mean"), TASKS, twins=2)
    settings = replace(plain, critic=critic, critic_tasks=tasks, value=value, gamma=0.0)
    state = init_sac(settings, [0], 1.0, torch.device("cpu"))
    batch, noise = _draws(0)
    for _ in range(400):
        metrics = sac_update(state, batch, noise, settings)
    error = (metrics["q_value"] - batch.reward.mean(-1)).abs()
    assert error.max() < 0.1 < batch.reward.mean(-1).abs().max()


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize(
    ("heads", "aggregator"),
    [
        *product(["multi-head", "one-hot"], ["mean", "cagrad"]),
        ("separate", "mean"),  # separate agents have no shared gradient
    ],
)
def test_everything_together_trains(discrete: bool, heads: str, aggregator: str) -> None:
    settings = FULL | {"heads": heads, "aggregator": aggregator}
    if heads == "separate":
        settings["shared_alpha"] = False
    agent = _agent(discrete=discrete, **settings)
    before = agent.state["actor"]["params"].clone()
    agent.learn(60 * agent.env.num_envs)
    assert agent._phase == 2 and not torch.equal(agent.state["actor"]["params"], before)
    assert all(torch.isfinite(torch.tensor(list(agent.metrics().values()))))


def test_a_resumed_agent_continues_bit_for_bit(tmp_path: Path) -> None:
    agent, other = _agent(**FULL), _agent(**FULL)
    total = 60 * agent.env.num_envs
    agent.begin(total)
    while agent.env_steps < total // 2:
        agent.advance()
    write_state(tmp_path / "state", agent.state_dict())
    other.env.load_state_dict(agent.env.state_dict())
    other.load_state_dict(read_state(tmp_path / "state"))
    for each in (agent, other):
        each.learn(total)
    (tensors, values), (others, other_values) = (
        split_state(each.state_dict()) for each in (agent, other)
    )
    assert values == other_values and "scale/largest" in tensors
    assert [
        name for name in tensors | others if not torch.equal(tensors[name], others[name])
    ] == []


def test_stacked_seeds_equal_seeds_alone() -> None:
    together = Seeds([_agent(seed, **FULL) for seed in (1, 2)], stack=True)
    alone = [_agent(seed, **FULL) for seed in (1, 2)]
    total = 24 * alone[0].env.num_envs
    for agent in (*together.agents, *alone):
        agent.begin(total)
    while alone[0].env_steps < total:
        assert together.advance() == {}
        for agent in alone:
            agent.advance()
    for ours, theirs in zip(together.agents, alone):
        assert ours._phase == theirs._phase == 2  # type: ignore[attr-defined]
        for role in ("actor", "critic", "tied", "log_alpha"):
            torch.testing.assert_close(
                ours.state[role]["params"],  # type: ignore[attr-defined]
                theirs.state[role]["params"],
                rtol=1e-3,
                atol=1e-4,
            )


def test_a_reset_starts_networks_afresh_and_keeps_the_buffer() -> None:
    agent = _agent(resets=1, reset_updates=5)
    total = 40 * agent.env.num_envs
    agent.begin(total)
    fresh = agent._fresh(agent._stream(101))
    while agent._phase == 0:
        held, steps = len(agent._buffer) if agent._buffer else 0, agent.gradient_steps
        agent.advance()
    assert agent.env_steps == total // 2 + agent.env.num_envs
    assert len(agent._buffer) == held + 2 and agent.gradient_steps == steps + 6
    assert (agent.state["actor"]["step"] == 6).all() and (
        agent.state["log_alpha"]["step"] == 6
    ).all()
    moved = (agent.state["actor"]["params"] - fresh["actor"]["params"]).abs().max()
    assert moved <= 6.1 * 3e-4, "six steps of Adam from the new initial values"


def test_the_return_scale_follows_the_largest_discounted_return() -> None:
    scale = ReturnScale(bound=10.0)
    state = scale.init(2, 1, torch.device("cpu"))
    for reward, done in (([1.0, 0.0], False), ([1.0, -4.0], True), ([1.0, 1.0], False)):
        ends = torch.full((2, 1), done)
        state = scale.observe(state, torch.tensor(reward)[:, None], ends, 0.5)
    assert state["largest"].tolist() == [1.5, 4.0] and state["running"].tolist() == [
        [1.0],
        [1.0],
    ]
    factors = scale.factors(state, torch.tensor([0.5, 0.0]))
    torch.testing.assert_close(factors, torch.tensor([5.0, 2.5]))


def test_rewards_in_batches_are_scaled_and_stored_ones_are_not() -> None:
    agent, plain = _agent(reward_scale="return"), _agent()
    for _ in range(4):
        for each in (agent, plain):
            each.advance()
    ours, theirs = (each._scaled(each._buffer.sample(8)) for each in (agent, plain))
    factors = agent._reward_scale.factors(agent._scale, agent._entropy_value())
    torch.testing.assert_close(ours.reward, theirs.reward * factors.view(1, -1, 1))
    assert torch.equal(agent._buffer._rows, plain._buffer._rows)


def test_balance_lifts_every_task_to_the_best_ones_mean_reward() -> None:
    agent = _agent(resets=1, reward_scale="balance", reset_updates=1)
    agent.learn(40 * agent.env.num_envs)
    assert agent._scale["factor"].min() == 1 and (agent._scale["factor"] > 1).any()
    agent._buffer._rows[:] = 0
    state = RewardBalance().restart({}, agent._buffer)
    assert (state["factor"] == 1).all(), "no task is best where all fail"


def test_one_temperature_stays_one() -> None:
    agent = _agent(shared_alpha=True)
    while agent.gradient_steps < 5:
        agent.advance()
    alpha = agent.state["log_alpha"]["params"]
    assert (alpha == alpha[:, :1]).all() and (alpha != 0).all()


def test_weight_decay_shrinks_what_trains() -> None:
    params = torch.ones(2, 3)
    trains = torch.tensor([[True, False, True], [True, True, True]])
    decay(params, AdamSettings(0.1, 1e-8, weight_decay=0.5), trains, [0])
    assert params.tolist() == [[pytest.approx(0.95), 1.0, pytest.approx(0.95)], [1.0, 1.0, 1.0]]


@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
def test_weight_decay_moves_parameters_without_gradients(kind: Any) -> None:
    def trained(weight_decay: float) -> Any:
        values = (
            SHORT if kind is MTSAC else {"width": 16, "rollout_per_task": 40, "minibatches": 2}
        )
        env = fakes.FakeEnv(fakes.get_suite("mt10:fake"), 2, 1, "random", 0, 0.0)
        agent = kind(env, seed=1, device="cpu", weight_decay=weight_decay, **values)
        while agent.gradient_steps == 0:
            agent.advance()
        return agent.state["actor"]["params"].norm()

    assert trained(5.0) < trained(0.0)


REFUSED = [
    ({"value": "categorical:atoms=1"}, "atoms"),
    ({"value": "categorical:low=2,high=1"}, "low"),
    ({"reset_updates": 3}, "reset_updates"),
    ({"reward_scale": "balance"}, "reward_scale"),
    ({"shared_alpha": True, "heads": "separate"}, "shared_alpha"),
    ({"resets": 1, "curriculum": "camrl-shared"}, "resets"),
]


@pytest.mark.parametrize(("settings", "named"), REFUSED)
def test_what_does_not_go_together_is_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(AgentError, match=named):
        _agent(**settings)


@pytest.mark.parametrize(
    ("settings", "bound"),
    [({}, 1000.0), ({"value": "categorical"}, None), ({"reward_scale": "return"}, None)],
)
def test_the_bound_of_rewards_is_of_plain_ones(
    settings: dict[str, Any], bound: float | None
) -> None:
    assert _agent(max_reward=10.0, **settings).settings.max_target == pytest.approx(bound)


@pytest.mark.parametrize("discrete", [False, True])
def test_half_is_half_the_usual_entropy_target(discrete: bool) -> None:
    half = _agent(discrete=discrete, target_entropy="half").settings.target_entropy
    whole = _agent(discrete=discrete).settings.target_entropy
    torch.testing.assert_close(torch.as_tensor(half) * 2, torch.as_tensor(whole))
    if not discrete:
        assert half == -_agent().spec.action_dim / 2
