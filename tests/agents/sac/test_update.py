"""The SAC update: equations on tiny tensors, seeds as an axis, static shapes without synchronization."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mtrl.agents.agent import EnvSpec
from mtrl.agents.aggregators import parse_aggregator
from mtrl.agents.data.replay import Batch
from mtrl.agents.optim.adam import AdamSettings
from mtrl.agents.optim.task_gradients import Reduction
from mtrl.agents.policies import Categorical, SquashedGaussian
from mtrl.agents.sac.update import (
    SACNoise,
    SACSettings,
    SACState,
    alpha_gradient,
    critic_target,
    init_sac,
    sac_update,
)
from mtrl.agents.sac.values import critic_loss
from mtrl.agents.state import stack
from tests.helpers.networks import mlp

TASKS, BATCH, OBS, ACTIONS = 3, 8, 5, 2
FLAT = "cagrad:flat_minima=0.05"
SPEC = EnvSpec("test", ("a", "b", "c"), OBS, (-1.0,) * ACTIONS, (1.0,) * ACTIONS)


def _settings(
    one_hot: bool = False, dtype: torch.dtype = torch.float32, aggregator: str = "mean"
) -> SACSettings:
    heads, in_dim = (1, OBS + TASKS) if one_hot else (TASKS, OBS)
    actor = mlp(in_dim, 16, 2, 2 * ACTIONS, heads)
    critic = mlp(in_dim + ACTIONS, 16, 2, 1, heads)
    return SACSettings(
        actor=actor,
        critic=critic,
        actor_tasks=Reduction(actor, parse_aggregator(aggregator), TASKS),
        critic_tasks=Reduction(critic, parse_aggregator(aggregator), TASKS, twins=2),
        num_tasks=TASKS,
        one_hot=one_hot,
        policy=SquashedGaussian(SPEC),
        gamma=0.9,
        tau=0.1,
        max_target=None,
        target_entropy=-2.0,
        max_grad_norm=1.0,
        clip_apart=False,
        adam=AdamSettings(1e-2, 1e-5),
        dtype=dtype,
    )


def _draws(seed: int) -> tuple[Batch, SACNoise]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(1, TASKS, BATCH, *shape, generator=generator)

    batch = Batch(
        normal(OBS), normal(ACTIONS).tanh(), normal(), (normal() > 1).float(), normal(OBS)
    )
    uniform = torch.rand(2, 1, TASKS, TASKS, generator=generator)
    return batch, SACNoise(normal(ACTIONS), normal(ACTIONS), uniform[0], uniform[1])


def _init(settings: SACSettings, seeds: list[int]) -> SACState:
    return init_sac(settings, seeds, 1.0, torch.device("cpu"))


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize(
    "aggregator",
    ["mean", "pcgrad", "cagrad", "nash-mtl:every=2", "upgrad", "sdmgrad", "moco", FLAT],
)
def test_three_seeds_at_once_equal_three_separate_runs(one_hot: bool, aggregator: str) -> None:
    settings = _settings(one_hot, aggregator=aggregator)
    together, alone = _init(settings, [0, 1, 2]), [_init(settings, [seed]) for seed in range(3)]
    for step in range(5):
        draws = [_draws(100 * step + seed) for seed in range(3)]
        batch = stack([d[0] for d in draws])
        parts = zip(*(d[1] for d in draws))
        noise = SACNoise(*(torch.cat(part) for part in parts if part[0] is not None))
        metrics = sac_update(together, batch, noise, settings).metrics
        for seed, (own_batch, own_noise) in enumerate(draws):
            own = sac_update(alone[seed], own_batch, own_noise, settings).metrics
            for name, value in own.items():
                torch.testing.assert_close(
                    metrics[name][seed : seed + 1], value, rtol=1e-3, atol=1e-3
                )
    for network in ("actor", "critic", "target_critic", "log_alpha"):
        for seed in range(3):
            expected = alone[seed][network]["params"]
            actual = together[network]["params"][seed : seed + 1]
            # Products of stacked and single matrices round differently, which solvers amplify a little.
            torch.testing.assert_close(
                actual, expected, rtol=1e-4, atol=1e-5 if aggregator == "mean" else 1e-4
            )


def test_target_uses_the_next_observation_and_stops_at_termination_only() -> None:
    settings = _settings()
    state = _init(settings, [0])
    batch, (noise, *_) = _draws(0)
    alpha = torch.ones(1, TASKS)
    target = critic_target(state, batch, noise, alpha, settings)
    ended = batch.terminated > 0
    assert ended.any() and not ended.all()
    torch.testing.assert_close(target[ended], batch.reward[ended])
    other_obs = batch._replace(obs=batch.obs + 1)
    assert torch.equal(critic_target(state, other_obs, noise, alpha, settings), target)
    other_next = batch._replace(next_obs=batch.next_obs + 1)
    moved = critic_target(state, other_next, noise, alpha, settings) != target
    assert torch.equal(moved, ~ended)


def _constant_twins(settings: SACSettings, state: SACState, values: list[list[float]]) -> None:
    """Let both target critics give ``values`` ``[2, outputs]``, and the actor zeros, at every observation."""
    state["actor"]["params"].zero_()
    state["target_critic"]["params"].zero_()
    flat = state["target_critic"]["params"].flatten(0, 1)
    bias = settings.critic.views(flat, torch.float32).named["head.bias"]
    bias.copy_(torch.tensor(values).unsqueeze(1).expand_as(bias))


def test_the_target_takes_the_smaller_twin_by_hand() -> None:
    """Twins of 3 and 5: ``r + 0.9 (3 − 2 log π)``. The mean of the twins would say 4."""
    settings = _settings()
    state = _init(settings, [0])
    _constant_twins(settings, state, [[3.0], [5.0]])
    batch, _ = _draws(0)
    batch = batch._replace(terminated=torch.zeros_like(batch.terminated))
    no_noise = torch.zeros(1, TASKS, BATCH, ACTIONS)
    target = critic_target(state, batch, no_noise, torch.full((1, TASKS), 2.0), settings)
    # Of two standard normals at 0, which tanh does not squeeze there.
    log_prob = -math.log(2 * math.pi)
    expected = batch.reward + 0.9 * (3 - 2 * log_prob)
    torch.testing.assert_close(target, expected)


def test_the_target_of_discrete_actions_takes_the_smaller_twin_of_each_action() -> None:
    """Twins (1, 4) and (3, 2) at p = (½, ½): ``½ 1 + ½ 2 + 2 log 2``. Their mean would say ½ 2 + ½ 3."""
    settings = _settings()
    mask = torch.ones(1, TASKS, 1, 2, dtype=torch.bool)
    settings = dataclasses.replace(
        settings,
        policy=Categorical(mask),
        actor=mlp(OBS, 16, 2, 2, TASKS),
        critic=mlp(OBS, 16, 2, 2, TASKS),
    )
    state = _init(settings, [0])
    _constant_twins(settings, state, [[1.0, 4.0], [3.0, 2.0]])
    batch, (noise, *_) = _draws(0)
    batch = batch._replace(terminated=torch.zeros_like(batch.terminated))
    target = critic_target(state, batch, noise, torch.full((1, TASKS), 2.0), settings)
    expected = batch.reward + 0.9 * (1.5 + 2 * math.log(2))
    torch.testing.assert_close(target, expected)


def test_targets_stay_within_their_bound() -> None:
    batch, (noise, *_) = _draws(0)
    settings = _settings()
    state, alpha = _init(settings, [0]), torch.ones(1, TASKS)
    batch = batch._replace(reward=100 * batch.reward)
    free = critic_target(state, batch, noise, alpha, settings)
    assert free.min() < -50 and free.max() > 50
    bounded = critic_target(
        state, batch, noise, alpha, dataclasses.replace(settings, max_target=50.0)
    )
    assert torch.equal(bounded, free.clamp(-50, 50))


def test_losses_by_hand() -> None:
    # One seed, two critics, one task, two samples.
    q = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]])
    assert critic_loss(q, torch.tensor([[[1.0, 1.0]]])).tolist() == [[0.5 * (0.5 + 2.5)]]
    # A mean over samples, however many, and a sum over critics.
    more = torch.cat([q, torch.ones(1, 2, 1, 2)], -1)
    assert critic_loss(more, torch.ones(1, 1, 4)).tolist() == [[0.5 * (0.25 + 1.25)]]
    log_prob = torch.tensor([[[-1.0, 1.0]]])
    one_action = SquashedGaussian(EnvSpec("test", ("a",), OBS, (-1.0,), (1.0,)))
    mean_zero, no_noise = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 1)
    value, density = one_action.soft_value(
        mean_zero, no_noise, lambda action: q.unsqueeze(-1), torch.tensor([[2.0]])
    )
    # Of a standard normal, which tanh does not squeeze at 0.
    at_zero = -0.5 * math.log(2 * math.pi)
    assert density.flatten().tolist() == pytest.approx([at_zero, at_zero])
    # The smaller twin's.
    assert value.flatten().tolist() == pytest.approx([1 - 2 * at_zero, 0 - 2 * at_zero])
    assert alpha_gradient(log_prob, -4.0).tolist() == [[4.0]]


def test_the_entropy_that_is_logged_is_that_of_the_samples() -> None:
    """An actor of zeros has standard normal pre-activations, and noise of 0 takes the action 0 with density 1 / 2π."""
    settings = _settings()
    state = _init(settings, [0])
    state["actor"]["params"].zero_()
    batch, noise = _draws(0)
    noise = noise._replace(action=torch.zeros_like(noise.action))
    metrics = sac_update(state, batch, noise, settings).metrics
    torch.testing.assert_close(
        metrics["entropy"], torch.full((1, TASKS), math.log(2 * math.pi))
    )


def test_one_update_by_hand() -> None:
    """Critics give (1, 2, 3) and (3, 4, 5) to the tasks, whatever the action, so the actor's loss is ``α log π``.

    At a pre-activation of 0 its slope is −α for the log deviations and 0 for the means. Adam's first step is the step
    size against the slope's sign, so deviations grow by 0.01. The target takes a tenth of the new critic.
    """
    settings = _settings()
    state = _init(settings, [0])
    for name in ("actor", "critic"):
        state[name]["params"].zero_()
    flat = state["critic"]["params"].flatten(0, 1)
    bias = settings.critic.views(flat, torch.float32).named["head.bias"]
    bias.copy_(torch.tensor([[1.0, 2, 3], [3, 4, 5]]).view_as(bias))
    old_target = state["target_critic"]["params"].clone()
    batch, noise = _draws(0)
    noise = noise._replace(action=torch.zeros_like(noise.action))
    metrics, _ = sac_update(state, batch, noise, settings)
    assert metrics["q_value"].tolist() == [[2, 3, 4]]
    heads = settings.actor.views(state["actor"]["params"], torch.float32).named["head.bias"]
    moved = torch.tensor([0.0, 0, 0.01, 0.01]).expand_as(heads)
    torch.testing.assert_close(heads, moved, rtol=1e-3, atol=1e-6)
    target = 0.9 * old_target + 0.1 * state["critic"]["params"]
    torch.testing.assert_close(state["target_critic"]["params"], target)


def test_entropy_above_target_lowers_alpha_and_below_raises_it() -> None:
    assert alpha_gradient(torch.tensor([[[-3.0]]]), 2.0).item() > 0
    assert alpha_gradient(torch.tensor([[[-1.0]]]), 2.0).item() < 0


def test_tasks_do_not_leak_into_each_other_in_multi_head_losses() -> None:
    settings = _settings()
    state = _init(settings, [0])
    batch, noise = _draws(0)
    changed = batch._replace(reward=batch.reward.clone())
    changed.reward[:, 1] += 10
    first = sac_update(state, batch, noise, settings).metrics["critic_loss"]
    second = sac_update(_init(settings, [0]), changed, noise, settings).metrics["critic_loss"]
    assert (first != second).tolist() == [[False, True, False]]


def test_repeated_updates_fit_a_fixed_batch() -> None:
    settings = _settings()
    state = _init(settings, [0])
    batch, noise = _draws(0)
    batch = batch._replace(terminated=torch.ones_like(batch.terminated))  # a regression problem
    losses = [
        sac_update(state, batch, noise, settings).metrics["critic_loss"].mean().item()
        for _ in range(200)
    ]
    assert losses[-1] < 0.1 * losses[0]


def test_bfloat16_stays_close_to_float32() -> None:
    batch, noise = _draws(0)
    metrics = [
        sac_update(_init(s, [0]), batch, noise, s).metrics
        for s in (_settings(), _settings(dtype=torch.bfloat16))
    ]
    for name in ("critic_loss", "actor_loss", "q_value"):
        scale = metrics[0][name].abs().mean().item()
        torch.testing.assert_close(
            metrics[0][name], metrics[1][name], rtol=0.05, atol=0.05 * scale
        )


class _Recorder(TorchDispatchMode):
    """Notes every operation with the shapes of its results."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls.append((str(func), tuple(out.shape) if isinstance(out, Tensor) else None))
        return out


SYNCS = (
    "_local_scalar_dense",
    "item",
    "nonzero",
    "is_nonzero",
    "equal.default",
    "masked_select",
    "unique",
    "_to_cpu",
)


@pytest.mark.parametrize(
    ("aggregator", "dtype"), [("mean", torch.bfloat16), (FLAT, torch.float32)]
)
def test_the_update_never_syncs_and_has_static_shapes(
    aggregator: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What CUDA graph capture needs: the same operations with the same shapes at every call, none reading values."""
    for module in ("base", "cagrad"):  # only on a CPU do solvers look whether they are done
        monkeypatch.setattr(f"mtrl.agents.aggregators.{module}.may_stop", lambda done: False)
    monkeypatch.setattr("mtrl.agents.aggregators.cagrad.some_left", lambda open_: False)
    settings = _settings(dtype=dtype, aggregator=aggregator)
    state = _init(settings, [0, 1])
    traces = []
    for step in range(3):
        pairs = [_draws(10 * step + seed) for seed in range(2)]
        batch = stack([p[0] for p in pairs])
        drawn = zip(*(p[1] for p in pairs))
        noise = SACNoise(*(torch.cat(part) for part in drawn if part[0] is not None))
        with _Recorder() as recorder:
            sac_update(state, batch, noise, settings)
        traces.append(recorder.calls)
    assert traces[0] == traces[1] == traces[2]
    assert len(traces[0]) > 100
    assert [name for name, _ in traces[0] if any(sync in name for sync in SYNCS)] == []
