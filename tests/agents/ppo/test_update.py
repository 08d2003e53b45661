"""The PPO update: equations on tiny tensors, PopArt's promise, seeds as an axis, the KL limit."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from mtrl.agents.agent import EnvSpec
from mtrl.agents.aggregators import parse_aggregator
from mtrl.agents.data.rollout import Rollout
from mtrl.agents.networks.encoder import Identity
from mtrl.agents.networks.memory import Recall
from mtrl.agents.optim.adam import AdamSettings
from mtrl.agents.optim.task_gradients import Reduction
from mtrl.agents.policies import Categorical, Gaussian, RatioPolicy
from mtrl.agents.policies.distributions import categorical, categorical_sample, gaussian
from mtrl.agents.ppo import samples as samples_of
from mtrl.agents.ppo import update
from mtrl.agents.ppo.popart import (
    denormalize,
    normalize,
    popart_state,
    popart_std,
    popart_update,
)
from mtrl.agents.ppo.samples import _rows as rows_of
from mtrl.agents.ppo.samples import _unrows as unrows
from mtrl.agents.ppo.samples import gae, prepare, values
from mtrl.agents.ppo.update import (
    Draw,
    PPOSettings,
    PPOState,
    Progress,
    approx_kl,
    clipped_surrogate,
    init_ppo,
    ppo_update,
    value_loss,
)
from tests.helpers import networks
from tests.helpers.networks import mlp

TASKS, STEPS, ENVS, OBS, ACTIONS = 3, 6, 2, 5, 2
SAMPLES = STEPS * ENVS
SPEC = EnvSpec("test", ("a", "b", "c"), OBS, (-1.0,) * ACTIONS, (1.0,) * ACTIONS)


def _settings(
    discrete: bool = False, one_hot: bool = False, aggregator: str = "mean", **changes: Any
) -> PPOSettings:
    in_dim = OBS + TASKS if one_hot else OBS
    actor = mlp(in_dim, 16, 2, ACTIONS, 1 if one_hot else TASKS, "tanh")
    critic = mlp(in_dim, 16, 2, 1, TASKS, "layer_norm")
    policy: RatioPolicy = Gaussian(SPEC)
    if discrete:
        policy = Categorical(
            torch.tensor([[True, True], [True, False], [True, True]])[None, :, None]
        )
    method = parse_aggregator(aggregator)
    made = PPOSettings(
        actor=actor,
        critic=critic,
        actor_tasks=Reduction(actor, method, TASKS),
        critic_tasks=Reduction(critic, method, TASKS),
        num_tasks=TASKS,
        one_hot=one_hot,
        policy=policy,
        gamma=0.9,
        gae_lambda=0.8,
        clip=0.2,
        entropy_coef=0.01,
        max_grad_norm=1.0,
        clip_apart=False,
        kl_stop=None,
        normalize_advantages=True,
        advantage_floor=0.0,
        popart_step=0.3,
        adam=AdamSettings(1e-2, 1e-5),
        std_rate=1.0,
        dtype=torch.float32,
    )
    return dataclasses.replace(made, **changes)


def _init(settings: PPOSettings, seeds: list[int]) -> PPOState:
    return init_ppo(settings, seeds, 1.0, torch.device("cpu"))


def _rollout(seed: int, discrete: bool = False) -> Rollout:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(1, TASKS, STEPS, ENVS, *shape, generator=generator)

    action = (
        torch.zeros(1, TASKS, STEPS, ENVS, dtype=torch.int64) if discrete else normal(ACTIONS)
    )
    terminated = (normal() > 1).float()
    return Rollout(
        normal(OBS),
        normal(OBS),
        action,
        normal(),
        terminated,
        ((normal() > 1) | (terminated > 0)).float(),
    )


def _epochs(seed: int, epochs: int, settings: PPOSettings) -> list[list[Draw]]:
    generator = torch.Generator().manual_seed(seed)

    def noise(reduction: Reduction) -> Tensor | None:
        shape = reduction.noise_shape()
        return None if shape is None else torch.rand(1, *shape, generator=generator)

    return [
        [
            Draw(rows, noise(settings.actor_tasks), noise(settings.critic_tasks))
            for rows in torch.rand(1, TASKS, SAMPLES, generator=generator)
            .argsort(-1)
            .tensor_split(3, -1)
        ]
        for _ in range(epochs)
    ]


def _stacked(draws: tuple[Draw, ...]) -> Draw:
    return Draw(*(None if parts[0] is None else torch.cat(parts) for parts in zip(*draws)))


def _naive_advantages(
    r: Rollout, value: Tensor, next_value: Tensor, gamma: float, lam: float
) -> Tensor:
    """The definition: the sum of discounted residuals to the end of the episode or of the rollout."""
    out = torch.zeros_like(value)
    for task in range(value.shape[1]):
        for env in range(value.shape[3]):
            for start in range(value.shape[2]):
                weight = 1.0
                for step in range(start, value.shape[2]):
                    at = (0, task, step, env)
                    bootstrap = 0.0 if r.terminated[at] else gamma * next_value[at]
                    out[0, task, start, env] += weight * (r.reward[at] + bootstrap - value[at])
                    if r.done[at]:
                        break
                    weight *= gamma * lam
    return out


@given(seed=st.integers(0, 1000), gamma=st.floats(0, 1), lam=st.floats(0, 1))
@hypothesis_settings(max_examples=10, deadline=None)
def test_advantages_equal_their_definition(seed: int, gamma: float, lam: float) -> None:
    rollout = _rollout(seed)
    value, next_value = (
        torch.randn(rollout.reward.shape, generator=torch.Generator().manual_seed(s))
        for s in (1, 2)
    )
    expected = _naive_advantages(rollout, value, next_value, gamma, lam)
    torch.testing.assert_close(
        gae(rollout, value, next_value, gamma, lam), expected, rtol=1e-4, atol=1e-4
    )


def test_truncation_bootstraps_from_the_final_observation_and_termination_does_not() -> None:
    one = torch.ones(1, 1, 1, 1)
    ended = Rollout(one, one, one, one, terminated=one, done=one)
    truncated = ended._replace(terminated=0 * one)
    assert gae(ended, 3 * one, 5 * one, 0.9, 0.8).item() == pytest.approx(1 - 3)
    assert gae(truncated, 3 * one, 5 * one, 0.9, 0.8).item() == pytest.approx(1 + 0.9 * 5 - 3)


def test_nothing_flows_back_from_the_next_episode() -> None:
    rollout = _rollout(0)
    rollout.done[:, :, 2], rollout.terminated[:, :, 2] = 1, 0
    zero = torch.zeros_like(rollout.reward)
    first = gae(rollout, zero, zero, 0.9, 0.8)
    rollout.reward[:, :, 3:] += 100
    second = gae(rollout, zero, zero, 0.9, 0.8)
    assert torch.equal(first[:, :, :3], second[:, :, :3]) and not torch.equal(
        first[:, :, 3:], second[:, :, 3:]
    )


def test_targets_and_explained_variance_by_hand() -> None:
    """Without discounting the target is the reward, and the advantage what the critic misses of it."""
    settings = _settings(gamma=0.0, normalize_advantages=False, popart_step=None)
    state, rollout = _init(settings, [0]), _rollout(0)
    samples, metrics = prepare(state, rollout, settings)
    reward = rollout.reward.flatten(2)
    value = values(state, settings.actor.look(rollout.obs.flatten(2, 3)), settings)
    torch.testing.assert_close(samples.target, reward)
    torch.testing.assert_close(samples.advantage, reward - value)
    torch.testing.assert_close(metrics["value"], value.mean(-1))
    missed = (reward - value).var(-1) / reward.var(-1)
    torch.testing.assert_close(metrics["explained_variance"], 1 - missed)


def test_rows_with_memory_stand_environment_after_environment_and_go_on_from_states() -> None:
    """The value of a step's next observation, with the memory of the step, is that of the next step of the sequence.

    Without discounting over steps (λ = 0, γ = 1) a target is the reward and the next value, and the advantage lacks the
    value itself.
    """
    field = torch.arange(6.0).view(1, 1, 3, 2)
    pairs = _settings(sequence=3)
    assert rows_of(field, pairs).tolist() == [[[0, 2, 4, 1, 3, 5]]]
    assert torch.equal(unrows(rows_of(field, pairs), field.shape, pairs), field)
    plain = _settings()
    assert torch.equal(unrows(rows_of(field, plain), field.shape, plain), field)
    actor = networks.network(Identity(OBS), 4, 1, ACTIONS, TASKS, memory=True)
    critic = networks.network(Identity(OBS), 4, 1, 1, TASKS, memory=True)
    settings = _settings(
        actor=actor, critic=critic, sequence=3, gamma=1.0, gae_lambda=0.0,
        normalize_advantages=False, popart_step=None,
    )  # fmt: skip
    state = _init(settings, [0])
    generator = torch.Generator().manual_seed(1)
    state["critic"]["params"].normal_(generator=generator)
    rollout = _rollout(0)
    rollout.next_obs[:, :, :-1] = rollout.obs[:, :, 1:]
    nothing = torch.zeros_like(rollout.reward)
    states = torch.randn(1, TASKS, STEPS, ENVS, 8, generator=generator)
    going = rollout._replace(terminated=nothing, done=nothing, start=nothing > 0, memory=states)
    samples, _ = prepare(state, going, settings)
    value = samples.target - samples.advantage
    after = samples.target - rows_of(going.reward, settings)
    sequences = [x.unflatten(-1, (-1, 3)) for x in (value, after)]
    torch.testing.assert_close(sequences[1][..., :-1], sequences[0][..., 1:])
    views = critic.views(state["critic"]["params"], torch.float32)
    begun = Recall(rows_of(states, settings)[:, :, ::3, 4:], rows_of(nothing > 0, settings))
    expected = critic.forward(views, critic.look(rows_of(rollout.obs, settings)), begun)
    torch.testing.assert_close(value, expected.squeeze(-1))


def test_rows_in_chunks_are_the_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _settings()
    state = _init(settings, [0])
    whole, _ = prepare(state, _rollout(0), settings)
    monkeypatch.setattr(samples_of, "CHUNK", 5)
    parts, _ = prepare(_init(settings, [0]), _rollout(0), settings)
    for name in ("log_prob", "advantage", "target"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name))


@pytest.mark.parametrize("discrete", [False, True])
def test_first_values_are_near_zero_and_first_actions_alike(discrete: bool) -> None:
    """First values above every return would make the end of an episode look bad."""
    settings = _settings(discrete)
    state, obs = _init(settings, [0]), _rollout(0).obs.flatten(2, 3)
    assert values(state, obs, settings).abs().max() < 0.05
    actor = settings.actor.views(state["actor"]["params"], torch.float32)
    assert settings.actor.forward(actor, obs).abs().max() < 0.05


def test_minibatches_take_a_cycles_factors_in_turn_by_hand() -> None:
    cycle = torch.tensor([[[2.0, 0, 1], [0, 2, 1]]])
    begun = Progress(step=10, weights=cycle)
    for count, factors in ((0, [2, 0, 1]), (1, [0, 2, 1]), (4, [2, 0, 1]), (5, [0, 2, 1])):
        now = begun.after(count)
        assert now.step == 10 + count and now.weights is not None
        assert now.weights.tolist() == [factors]
    same = Progress(weights=cycle[:, 0]).after(1).weights
    assert same is not None and same.tolist() == [[2, 0, 1]]


def test_what_is_logged_is_the_mean_over_all_minibatches_by_hand() -> None:
    """With steps of no length the policy stays a standard normal in two dimensions, of entropy log 2πe."""
    settings = _settings()
    metrics, count = ppo_update(
        _init(settings, [0]), _rollout(0), _epochs(0, 2, settings), 0.0, settings
    )
    assert count == 6
    entropy = torch.full((1, TASKS), math.log(2 * math.pi * math.e))
    torch.testing.assert_close(metrics["entropy"], entropy)
    torch.testing.assert_close(metrics["approx_kl"], torch.zeros(1, TASKS), rtol=0, atol=1e-6)
    assert metrics["epochs"].tolist() == [2]


@pytest.mark.parametrize(("limit", "passes"), [(2**-7, 2), (0.99 * 2**-7, 1)])
def test_passes_by_hand(limit: float, passes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three minibatches a pass, and factors that alternate: minibatches are counted over all passes.

    The tasks diverge by (1, 100, 3) / 256, and the second one's rows are of an earlier round: the mean of the other two
    is 2⁻⁷, which a limit of as much still allows.
    """
    seen: list[tuple[int | None, Any]] = []

    def step(
        state: Any, batch: Any, draw: Any, members: Any, rate: Any, settings: Any, now: Progress,
        pull: Any,
    ) -> dict[str, Tensor]:  # fmt: skip
        assert now.weights is not None
        seen.append((now.step, now.weights.tolist()))
        return {"approx_kl": torch.tensor([[1.0, 100.0, 3.0]]) / 256}

    monkeypatch.setattr(update, "_minibatch_step", step)
    settings = _settings(kl_stop=limit)
    rollout = _rollout(0)._replace(
        fresh=torch.tensor([[True, False, True]]), log_prob=torch.zeros(1, TASKS, STEPS, ENVS)
    )
    progress = Progress(step=10, weights=torch.tensor([[[2.0, 0, 1], [0, 2, 1]]]))
    metrics, count = ppo_update(
        _init(settings, [0]), rollout, _epochs(0, 2, settings), 0.1, settings, progress
    )
    even, odd = [[2, 0, 1]], [[0, 2, 1]]
    assert seen == list(zip(range(10, 16), [even, odd] * 3))[: 3 * passes]
    assert count == 3 * passes
    assert metrics["epochs"].tolist() == [passes]


def test_deviations_move_by_their_own_rate_and_their_tasks_factor_by_hand() -> None:
    """Adam's first step is the step size times the gradient's sign, and there is no gradient at a factor of 0."""
    settings = _settings(std_rate=0.5, adam=AdamSettings(1e-2, 1e-12), max_grad_norm=None)
    state = _init(settings, [0])
    one_draw = [_epochs(0, 1, settings)[0][:1]]
    progress = Progress(weights=torch.tensor([[0.0, 1.0, 2.0]]))
    ppo_update(state, _rollout(0), one_draw, 1e-2, settings, progress)
    moved = torch.tensor([0.0, 0.005, 0.005]).view(1, TASKS, 1).expand(-1, -1, ACTIONS)
    torch.testing.assert_close(state["log_std"]["params"].abs(), moved)


def test_ratios_that_are_clipped_on_either_side_are_counted_by_hand() -> None:
    """The first task's rows are half as likely as when they were drawn, the second's twice, the third's as likely."""
    settings = _settings()
    state = _init(settings, [0])
    rollout = _rollout(0)._replace(
        fresh=torch.ones(1, TASKS, dtype=torch.bool),
        log_prob=torch.zeros(1, TASKS, STEPS, ENVS),
    )
    prepare(state, rollout, settings)
    assert rollout.log_prob is not None
    rollout.log_prob[:, 0] += math.log(2)
    rollout.log_prob[:, 1] -= math.log(2)
    old = rollout._replace(fresh=torch.tensor([[False, False, True]]))
    one_draw = [_epochs(0, 1, settings)[0][:1]]
    metrics, _ = ppo_update(state, old, one_draw, 0.0, settings)
    assert metrics["clip_fraction"].tolist() == [[1, 1, 0]]
    kl = torch.tensor([[0.5 - 1 + math.log(2), 2 - 1 - math.log(2), 0.0]])
    torch.testing.assert_close(metrics["approx_kl"], kl, rtol=1e-4, atol=1e-6)


def test_losses_by_hand() -> None:
    log_ratio = torch.tensor([[[1.5, 0.5, 1.5, 0.5]]]).log()
    advantage = torch.tensor([[[1.0, 1.0, -1.0, -1.0]]])
    # A > 0: gains stop at 1.2; A < 0: losses are never clipped above, and gains stop at 0.8
    torch.testing.assert_close(
        clipped_surrogate(log_ratio, advantage, 0.2),
        torch.tensor([[-(1.2 + 0.5 - 1.5 - 0.8) / 4]]),
    )
    expected = sum(r - 1 - torch.tensor(r).log().item() for r in (1.5, 0.5, 1.5, 0.5)) / 4
    assert approx_kl(log_ratio).item() == pytest.approx(expected)
    assert value_loss(
        torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[0.0, 1.0]]])
    ).item() == pytest.approx(1.25)


def test_densities_match_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_std, action = (torch.randn(4, 3, generator=generator) for _ in range(3))
    normal = torch.distributions.Independent(torch.distributions.Normal(mean, log_std.exp()), 1)
    log_prob, entropy = gaussian(mean, log_std, action)
    torch.testing.assert_close(log_prob, normal.log_prob(action))
    torch.testing.assert_close(entropy, normal.entropy())
    choice = torch.tensor([0, 1, 2, 1])
    log_prob, entropy = categorical(mean, choice)
    torch.testing.assert_close(
        log_prob, torch.distributions.Categorical(logits=mean).log_prob(choice)
    )
    torch.testing.assert_close(entropy, torch.distributions.Categorical(logits=mean).entropy())


def test_gumbel_samples_have_the_right_frequencies() -> None:
    logits = torch.tensor([0.0, 1.0, -1e9]).expand(20_000, 3)
    drawn = categorical_sample(
        logits, torch.rand(logits.shape, generator=torch.Generator().manual_seed(0))
    )
    frequency = torch.bincount(drawn, minlength=3) / len(drawn)
    torch.testing.assert_close(frequency, torch.softmax(logits[0], 0), rtol=0, atol=0.01)


def test_missing_actions_have_no_probability_and_add_no_entropy() -> None:
    settings = _settings(discrete=True)
    action = torch.zeros(1, TASKS, 1, dtype=torch.int64)
    log_prob, entropy = settings.policy.log_prob(torch.zeros(1, TASKS, 1, 2), action, None)
    torch.testing.assert_close(log_prob.flatten().exp(), torch.tensor([0.5, 1.0, 0.5]))
    torch.testing.assert_close(entropy.flatten(), torch.tensor([2.0, 1.0, 2.0]).log())


@given(
    shift=st.floats(-100, 100),
    scale=st.floats(0.1, 100),
    step=st.floats(0, 1),
    seed=st.integers(0, 20),
)
@hypothesis_settings(max_examples=30, deadline=None)
def test_popart_changes_the_scale_but_no_value(
    shift: float, scale: float, step: float, seed: int
) -> None:
    settings = _settings()
    state = _init(settings, [seed, seed + 1])
    generator = torch.Generator().manual_seed(seed)
    obs = torch.randn(2, TASKS, 7, OBS, generator=generator)
    target = torch.randn(2, TASKS, 50, generator=generator) * scale + shift
    for _ in range(3):
        before, old_std = values(state, obs, settings), popart_std(state["popart"])
        popart_update(state["popart"], state["critic"]["params"], settings.critic, target, step)
        size = float(before.abs().max() + abs(shift) + scale)
        torch.testing.assert_close(
            values(state, obs, settings) / size, before / size, rtol=0, atol=1e-4
        )
        assert not torch.equal(popart_std(state["popart"]), old_std) or scale == 1.0
        target = target * 1.5 + 0.1


def test_the_first_update_adopts_the_targets_scale_and_step_zero_is_the_mean_over_all() -> None:
    critic = mlp(2, 3, 1, 1, 2)
    first, second = (
        torch.tensor([[[1.0, 3.0], [10.0, 30.0]]]),
        torch.tensor([[[5.0, 5.0], [0.0, 0.0]]]),
    )
    popart, params = (
        popart_state(1, 2, torch.device("cpu")),
        torch.zeros(1, critic.num_parameters),
    )
    popart_update(popart, params, critic, first, 0.3)
    torch.testing.assert_close(
        normalize(popart, first), torch.tensor([[[-1.0, 1.0], [-1.0, 1.0]]])
    )
    torch.testing.assert_close(denormalize(popart, normalize(popart, first)), first)
    popart_update(popart, params, critic, second, 0.0)
    both = torch.cat([first, second], -1)
    torch.testing.assert_close(popart["mean"], both.mean(-1))
    torch.testing.assert_close(popart_std(popart), both.std(-1, correction=0))


def test_advantages_are_normalized_within_each_task() -> None:
    settings = _settings()
    rollout = _rollout(0)
    scaled = rollout._replace(
        reward=rollout.reward * torch.tensor([1.0, 100.0, 0.01]).view(1, 3, 1, 1)
    )
    samples, _ = prepare(_init(settings, [0]), scaled, settings)
    torch.testing.assert_close(
        samples.advantage.mean(-1), torch.zeros(1, TASKS), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(
        samples.advantage.std(-1), torch.ones(1, TASKS), rtol=1e-3, atol=0
    )


def test_advantages_below_the_floor_are_not_scaled_up() -> None:
    rollout = _rollout(0)
    scaled = rollout._replace(
        reward=rollout.reward * torch.tensor([1.0, 100.0, 0.0]).view(1, 3, 1, 1)
    )
    found = {}
    for name, changes in (
        ("raw", {"normalize_advantages": False}),
        ("floor", {"advantage_floor": 0.5}),
    ):
        settings = _settings(**changes)
        found[name] = prepare(_init(settings, [0]), scaled, settings)[0].advantage
    spread = found["raw"].std(-1, keepdim=True)
    assert (spread.flatten() > 0.5).tolist() == [True, True, False]
    expected = (found["raw"] - found["raw"].mean(-1, keepdim=True)) / spread.clamp_min(0.5)
    torch.testing.assert_close(found["floor"], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("discrete", "one_hot", "aggregator"),
    [
        (False, False, "mean"),
        (True, False, "mean"),
        (False, True, "mean"),
        (False, False, "pcgrad"),
    ],
)
def test_three_seeds_at_once_equal_three_separate_runs(
    discrete: bool, one_hot: bool, aggregator: str
) -> None:
    settings = _settings(discrete, one_hot, aggregator)
    together, alone = _init(settings, [0, 1, 2]), [_init(settings, [seed]) for seed in range(3)]
    for step in range(2):
        rollouts = [_rollout(10 * step + seed, discrete) for seed in range(3)]
        draws = [_epochs(10 * step + seed, 3, settings) for seed in range(3)]
        stacked = [[_stacked(each) for each in zip(*epochs)] for epochs in zip(*draws)]
        joint = Rollout._make(
            None if parts[0] is None else torch.cat(parts) for parts in zip(*rollouts)
        )
        metrics, _ = ppo_update(together, joint, stacked, 1e-3, settings)
        for seed in range(3):
            own, _ = ppo_update(alone[seed], rollouts[seed], draws[seed], 1e-3, settings)
            for name, value in own.items():
                torch.testing.assert_close(
                    metrics[name][seed : seed + 1], value, rtol=1e-3, atol=1e-4
                )
    for network in [name for name in together if "params" in together[name]]:
        for seed in range(3):
            expected = alone[seed][network]["params"]
            torch.testing.assert_close(
                together[network]["params"][seed : seed + 1], expected, rtol=1e-3, atol=1e-5
            )


def test_a_seed_beyond_the_kl_limit_stops_alone() -> None:
    settings = _settings(kl_stop=1e-4)
    still = _rollout(0)._replace(
        reward=torch.zeros(1, TASKS, STEPS, ENVS), terminated=torch.ones(1, TASKS, STEPS, ENVS)
    )
    calm = dataclasses.replace(settings, entropy_coef=0.0)
    state = _init(settings, [0, 0])
    # With reward 0 and value 0 the second seed has nothing to learn.
    state["critic"]["params"][1] = 0
    joint = Rollout._make(
        None if a is None else torch.cat([a, b]) for a, b in zip(_rollout(0), still)
    )
    epochs = [[_stacked((draw, draw)) for draw in draws] for draws in _epochs(0, 4, calm)]
    metrics, steps = ppo_update(state, joint, epochs, 1e-2, calm)
    assert metrics["epochs"].tolist() == [1.0, 4.0] and steps == 12
    alone = _init(settings, [0])
    ppo_update(alone, _rollout(0), _epochs(0, 1, calm), 1e-2, calm)
    for network in ("actor", "critic", "log_std"):
        torch.testing.assert_close(
            state[network]["params"][:1], alone[network]["params"], rtol=1e-4, atol=1e-6
        )


def test_without_a_limit_every_epoch_is_used_and_the_first_ratio_is_one() -> None:
    settings = _settings()
    metrics, steps = ppo_update(
        _init(settings, [0]), _rollout(0), _epochs(0, 4, settings), 1e-2, settings
    )
    assert steps == 12 and metrics["epochs"].tolist() == [4.0]
    one_draw = [_epochs(0, 1, settings)[0][:1]]
    metrics, _ = ppo_update(_init(settings, [0]), _rollout(0), one_draw, 1e-2, settings)
    torch.testing.assert_close(metrics["approx_kl"], torch.zeros(1, TASKS), rtol=0, atol=1e-6)
    assert not metrics["clip_fraction"].any()


def test_rows_of_an_earlier_round_keep_the_policy_that_acted_and_are_not_judged() -> None:
    """Where the policy has left old rows, clipping stops it; the KL limit looks at new rows only."""
    settings = _settings(kl_stop=1e-3)
    state = _init(settings, [0])
    fresh = torch.tensor([[True, False] + [True] * (TASKS - 2)])
    rollout = _rollout(0)._replace(
        fresh=torch.ones_like(fresh), log_prob=torch.full((1, TASKS, STEPS, ENVS), torch.nan)
    )
    acted, _ = prepare(state, rollout, settings)
    assert rollout.log_prob is not None
    torch.testing.assert_close(rollout.log_prob.flatten(2), acted.log_prob, rtol=0, atol=0)
    state["actor"]["params"] += 0.3 * torch.randn(
        state["actor"]["params"].shape, generator=torch.Generator().manual_seed(1)
    )
    again, _ = prepare(state, rollout._replace(fresh=fresh), settings)
    same = (again.log_prob == acted.log_prob).all(-1)
    assert same.tolist() == (~fresh).tolist()
    metrics, steps = ppo_update(
        state, rollout._replace(fresh=fresh), _epochs(0, 3, settings), 1e-9, settings
    )
    divergence = metrics["approx_kl"][0]
    assert divergence[1] > 1e-3 and divergence[fresh[0]].max() < 1e-6 and steps == 9


def test_tasks_do_not_leak_into_each_other_in_multi_head_losses() -> None:
    settings = _settings()
    rollout = _rollout(0)
    changed = rollout._replace(
        reward=rollout.reward
        + torch.randn_like(rollout.reward) * torch.tensor([0.0, 1, 0])[:, None, None]
    )
    one_draw = [_epochs(0, 1, settings)[0][:1]]
    first, second = (
        ppo_update(_init(settings, [0]), r, one_draw, 1e-2, settings)[0]
        for r in (rollout, changed)
    )
    for name in ("critic_loss", "actor_loss", "value"):
        expected = [[False, name != "value", False]]
        assert (first[name] != second[name]).tolist() == expected, name


def test_better_actions_become_likelier_and_worse_ones_less_likely() -> None:
    settings = _settings(gamma=0.0, entropy_coef=0.0)
    state = _init(settings, [0])
    rollout = _rollout(0)
    before, _ = prepare(_init(settings, [0]), rollout, settings)
    ppo_update(state, rollout, _epochs(0, 10, settings), 1e-3, settings)
    after, _ = prepare(state, rollout, settings)
    gain = ((after.log_prob - before.log_prob) * before.advantage).mean(-1)
    assert (gain > 0.01).all()


def test_the_entropy_bonus_makes_the_likelier_action_less_likely() -> None:
    """With advantages of 0 only the bonus is left. Of logits (1, 0), p = (0.731, 0.269) and ∂H/∂logit is

    −p (log p + H) = (−0.197, 0.197), so ascent on the entropy lowers the first logit and raises the second. Adam's
    first step is the step size times the sign of the slope, whatever the bonus weighs.
    """
    rate = 1e-2
    settings = _settings(
        discrete=True, entropy_coef=0.1, normalize_advantages=False, popart_step=None, gamma=0.0
    )
    state = _init(settings, [0])
    state["critic"]["params"].zero_()
    state["actor"]["params"].zero_()
    bias = settings.actor.views(state["actor"]["params"], torch.float32).named["head.bias"]
    bias.copy_(torch.tensor([1.0, 0.0]).expand_as(bias))
    nothing = _rollout(0, discrete=True)._replace(reward=torch.zeros(1, TASKS, STEPS, ENVS))
    one_draw = [_epochs(0, 1, settings)[0][:1]]
    metrics, _ = ppo_update(state, nothing, one_draw, rate, settings)
    assert metrics["actor_loss"].abs().max() == 0
    p = torch.tensor([1.0, 0.0]).softmax(0)
    entropy = -(p * p.log()).sum()
    # The second task has one action, and so no entropy to gain.
    torch.testing.assert_close(metrics["entropy"][0], entropy * torch.tensor([1.0, 0.0, 1.0]))
    moved = torch.tensor([[1 - rate, rate], [1.0, 0.0], [1 - rate, rate]])
    torch.testing.assert_close(bias[0], moved, rtol=1e-3, atol=1e-4)


def test_clipped_apart_the_heads_do_not_see_the_length_a_method_gives_the_trunk() -> None:
    """The sum is three times the mean in the trunk; the heads' first moments are the same, since each part is clipped
    by a norm of its own."""
    moments, factors = [], []
    for aggregator in ("mean", "sum"):
        settings = _settings(aggregator=aggregator, max_grad_norm=1e-3, clip_apart=True)
        state = _init(settings, [0])
        one_draw = [_epochs(0, 1, settings)[0][:1]]
        metrics, _ = ppo_update(state, _rollout(0), one_draw, 1e-3, settings)
        shared = settings.critic.layout.num_shared
        moments.append(state["critic"]["exp_avg"][0, shared:])
        factors.append([float(metrics[f"critic_{part}_clip"]) for part in ("shared", "owned")])
    torch.testing.assert_close(moments[0], moments[1])
    assert 0 < factors[1][0] < factors[0][0] <= 1
    assert factors[0][1] == pytest.approx(factors[1][1])
