"""Distributions and the optimizer against independent references."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtrl.agents.agent import EnvSpec
from mtrl.agents.optim.adam import AdamSettings, adam_state, adam_step, decay
from mtrl.agents.policies import Categorical, SquashedGaussian
from mtrl.agents.policies.distributions import (
    categorical,
    clipped_mean,
    gaussian_sample,
    squashed_gaussian,
    squashed_mode,
)
from tests.helpers.networks import mlp


@given(mean=st.floats(-3, 3), log_std=st.floats(-3, 1), noise=st.floats(-3, 3))
@settings(max_examples=100, deadline=None)
def test_log_density_of_the_squashed_gaussian(
    mean: float, log_std: float, noise: float
) -> None:
    output = torch.tensor([mean, log_std], dtype=torch.float64)
    action, log_prob = squashed_gaussian(output, torch.tensor([noise], dtype=torch.float64))
    base = torch.distributions.Normal(output[0], output[1].exp())
    reference = torch.distributions.TransformedDistribution(
        base, torch.distributions.TanhTransform(cache_size=1)
    )
    u = output[0] + output[1].exp() * noise
    expected = base.log_prob(u) - torch.distributions.TanhTransform().log_abs_det_jacobian(
        u, torch.tanh(u)
    )
    torch.testing.assert_close(log_prob, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(action[0], torch.tanh(u))
    assert reference.support.check(action).all()


@given(mean=st.floats(-4, 4), log_std=st.floats(-8, 2))
@settings(max_examples=100, deadline=None)
def test_mean_of_the_clipped_gaussian(mean: float, log_std: float) -> None:
    # Of equally likely parts.
    middles = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    samples = torch.distributions.Normal(
        mean, torch.tensor(log_std, dtype=torch.float64).exp()
    ).icdf(middles)
    expected = samples.clamp(-1, 1).mean()
    ours = clipped_mean(*torch.tensor([[mean], [log_std]], dtype=torch.float64))
    torch.testing.assert_close(ours[0], expected, rtol=1e-4, atol=1e-5)


@given(seed=st.integers(0, 2**31 - 1), actions=st.integers(1, 7))
@settings(max_examples=50, deadline=None)
def test_categorical_and_its_gradients(seed: int, actions: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 3, 5, actions, generator=generator, dtype=torch.float64)
    logits[0, 0, 0, 1:] = -1e9  # impossible actions
    action = torch.randint(actions, (2, 3, 5), generator=generator)
    action[0, 0, 0] = 0
    slopes = torch.randn(2, 2, 3, 5, generator=generator, dtype=torch.float64)
    found = []
    for ours in (True, False):
        leaf = logits.clone().requires_grad_()
        reference = torch.distributions.Categorical(logits=leaf)
        out = (
            categorical(leaf, action)
            if ours
            else (reference.log_prob(action), reference.entropy())
        )
        found.append([*out, *torch.autograd.grad(out, leaf, list(slopes))])
    for own, expected in zip(*found, strict=True):
        torch.testing.assert_close(own, expected)


@pytest.mark.parametrize("lead", [(1,), (2, 1), (1, 2, 1, 3)])
def test_categorical_by_hand_with_any_leading_axes(lead: tuple[int, ...]) -> None:
    """Logits 0 and log 3 are probabilities of a quarter and three quarters."""
    logits = torch.tensor([1.0, 3.0]).log().expand(*lead, 2)
    log_prob, entropy = categorical(logits, torch.ones(lead, dtype=torch.int64))
    torch.testing.assert_close(log_prob, torch.full(lead, -0.2876821))
    torch.testing.assert_close(entropy, torch.full(lead, 0.5623351))


def test_log_density_is_finite_where_the_action_saturates() -> None:
    action, log_prob = squashed_gaussian(torch.tensor([50.0, 0.0]), torch.zeros(1))
    assert action.item() == 1.0 and torch.isfinite(log_prob)


def test_gaussian_sample_by_hand() -> None:
    sample = gaussian_sample(torch.ones(1), torch.tensor([2.0]).log(), torch.tensor([3.0]))
    assert sample.item() == pytest.approx(7.0)


def test_the_best_action_is_one_that_the_task_has() -> None:
    policy = Categorical(torch.tensor([True, False]))
    assert policy.mode(torch.tensor([[0.0, 5.0], [-5.0, 0.0]])).tolist() == [0, 0]


def test_random_actions_fill_the_box() -> None:
    policy = SquashedGaussian(EnvSpec("test", ("a",), 1, (-1.0,), (1.0,)))
    drawn = policy.random(1000, torch.Generator().manual_seed(0))
    low, high = drawn.aminmax()
    assert (low, high) == (pytest.approx(-1, abs=0.02), pytest.approx(1, abs=0.02))
    assert drawn.mean().item() == pytest.approx(0, abs=0.05)


def test_mode_is_the_tanh_of_the_mean() -> None:
    assert squashed_mode(torch.tensor([0.5, 9.0])).item() == pytest.approx(0.46211715)


def test_adam_equals_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    params = torch.randn(2, 7, generator=generator)
    reference = params.clone().requires_grad_()
    optimizer = torch.optim.Adam([reference], lr=0.01, eps=1e-5)
    state = adam_state(params)
    for _ in range(20):
        grad = torch.randn(2, 7, generator=generator)
        reference.grad = grad.clone()
        optimizer.step()
        adam_step(state, grad, AdamSettings(0.01, 1e-5))
    torch.testing.assert_close(state["params"], reference.detach())


def test_members_that_do_not_step_keep_their_state_and_count_their_own_steps() -> None:
    """Adam's first step is the step size times the gradient's sign, whatever happened to other members before."""
    state = adam_state(torch.zeros(2, 3), per_member=True)
    settings = AdamSettings(0.01, 1e-12)
    adam_step(state, torch.ones(2, 3), settings, [0])
    assert state["step"].tolist() == [1, 0]
    torch.testing.assert_close(state["params"], torch.tensor([[-0.01] * 3, [0.0] * 3]))
    assert not state["exp_avg"][1].any() and not state["exp_avg_sq"][1].any()
    adam_step(state, -2 * torch.ones(2, 3), settings)
    assert state["step"].tolist() == [2, 1]
    torch.testing.assert_close(state["params"][1], torch.full((3,), 0.01))
    # m = 0.9 · 0.1 - 0.2 = -0.11 over 0.19, v = 0.001 · 0.999 + 0.004 over 0.001999.
    moved = 0.01 * (0.11 / 0.19) / (0.004999 / 0.001999) ** 0.5
    torch.testing.assert_close(state["params"][0], torch.full((3,), -0.01 + moved))


def test_decay_by_hand() -> None:
    """A step of 0.1 takes 0.1 · 0.5 of what trains, of the members that step."""
    params = torch.full((2, 2), 4.0)
    trains = torch.tensor([[True, False], [True, True]])
    settings = AdamSettings(0.1, 1e-8, weight_decay=0.5)
    decay(params, settings, trains, members=[0])
    torch.testing.assert_close(params, torch.tensor([[3.8, 4.0], [4.0, 4.0]]))
    decay(params, settings)
    torch.testing.assert_close(params, torch.tensor([[3.61, 3.8], [3.8, 3.8]]))


def test_initial_weights_are_he_uniform_with_zero_biases() -> None:
    network = mlp(in_dim=24, width=64, depth=2, out_dim=3, num_heads=5)
    flat = network.init(2, torch.Generator().manual_seed(0))
    assert flat.shape == (2, network.num_parameters) and not torch.equal(flat[0], flat[1])
    views = network.views(flat, torch.float32).named
    assert views["head.weight"].shape == (2, 5, 3, 64)
    assert all((views[name] == 0).all() for name in views if name.endswith("bias"))
    weight = views["body.0.weight"]
    assert weight.abs().max() <= (6 / 24) ** 0.5
    torch.testing.assert_close(weight.var(), torch.tensor(2 / 24), rtol=0.05, atol=0)
