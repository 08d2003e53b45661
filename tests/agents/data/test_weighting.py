"""Weights of samples by their values: worked cases, their place in the losses, and training on from a saved state."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from mtrl.agents import MTPPO, MTSAC, AgentError
from mtrl.agents.data.registry import SAMPLE_WEIGHTINGS
from mtrl.agents.data.weighting import RMTL, quantile
from mtrl.agents.files import read_state, write_state
from mtrl.agents.ppo.update import clipped_surrogate, value_loss
from mtrl.agents.sac.values import critic_loss
from mtrl.agents.state import difference
from tests.agents.sac import test_update as sac
from tests.helpers import fakes

CPU = torch.device("cpu")


def test_weights_by_hand() -> None:
    """Values 0 to 20 have the quantiles 1 and 19: 19 and above count 1, 10 counts 1.5, 1 and below count 2."""
    value = torch.arange(21.0).view(1, 1, 21)
    weight, state = RMTL(lam=1.0).weights(value, RMTL().init(1, 1, CPU))
    assert weight is not None
    expected = torch.tensor([2.0, 2.0, *(2 - step / 18 for step in range(1, 18)), 1.0, 1.0])
    torch.testing.assert_close(weight[0, 0], expected / expected.mean())
    assert (float(state["low"]), float(state["high"])) == (1.0, 19.0)
    assert weight[0, 0, 10] / weight[0, 0, 20] == pytest.approx(1.5)


def test_quantiles_are_averages_over_updates() -> None:
    rule = RMTL(decay=0.75)
    _, state = rule.weights(torch.arange(21.0).view(1, 1, 21), rule.init(1, 1, CPU))
    _, state = rule.weights(torch.arange(21.0).view(1, 1, 21) + 8, state)
    assert float(state["low"]) == pytest.approx(1 + 8 / 4)
    assert float(state["high"]) == pytest.approx(19 + 8 / 4)


def test_a_tasks_scale_does_not_matter_and_its_weights_have_mean_one() -> None:
    value = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0))
    scale = torch.tensor([1.0, 100.0, 0.01]).view(3, 1)
    for lam in (0.0, 1.0, 4.0):
        rule = RMTL(lam=lam)
        one, _ = rule.weights(value, rule.init(2, 3, CPU))
        other, _ = rule.weights(value * scale - 7 * scale, rule.init(2, 3, CPU))
        assert one is not None and other is not None
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(one.mean(-1), torch.ones(2, 3))
        # Before they are brought to mean 1, weights are from 1 to 1 + λ.
        ratio = one.amax(-1) / one.amin(-1)
        torch.testing.assert_close(ratio, torch.full((2, 3), 1 + lam))


def test_equal_values_count_the_same() -> None:
    weight, _ = RMTL().weights(torch.full((1, 1, 6), 3.0), RMTL().init(1, 1, CPU))
    assert torch.equal(weight, torch.ones(1, 1, 6))


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95, 0.0, 1.0])
def test_quantiles_are_those_of_torch(share: float) -> None:
    x = torch.randn(3, 40, generator=torch.Generator().manual_seed(1)).sort(-1).values
    torch.testing.assert_close(quantile(x, share), torch.quantile(x, share, dim=-1))


def test_losses_are_means_of_weighted_samples() -> None:
    one, other = torch.rand(2, 1, 3, 8, generator=torch.Generator().manual_seed(2))
    weight = torch.zeros(1, 3, 8)
    weight[..., 2:4] = 4.0
    part = slice(2, 4)
    expected = clipped_surrogate(one[..., part], other[..., part], 0.2)
    torch.testing.assert_close(clipped_surrogate(one, other, 0.2, weight), expected)
    expected = value_loss(one[..., part], other[..., part])
    torch.testing.assert_close(value_loss(one, other, weight), expected)
    both = torch.stack([one, other], 1)
    expected = critic_loss(both[..., part], one[..., part])
    torch.testing.assert_close(critic_loss(both, one, weight), expected)
    for loss in (value_loss, critic_loss):
        first = one if loss is value_loss else both
        assert torch.equal(loss(first, one, torch.ones(1, 3, 8)), loss(first, one))


def test_no_gradient_flows_through_a_weight() -> None:
    value = torch.randn(1, 2, 9, requires_grad=True)
    weight, state = RMTL().weights(value, RMTL().init(1, 2, CPU))
    assert weight is not None and not weight.requires_grad
    assert not any(tensor.requires_grad for tensor in state.values())


def test_sac_weighs_the_actors_samples_alone() -> None:
    """The critics' step is what it is without weights, the temperatures' too."""
    found = {}
    for name in ("none", "rmtl:lam=3"):
        settings = sac._settings()
        settings = sac.dataclasses.replace(
            settings, sample_weighting=SAMPLE_WEIGHTINGS.make(name)
        )
        state = sac._init(settings, [0])
        batch, noise = sac._draws(0)
        sac.sac_update(state, batch, noise, settings)
        found[name] = state
    plain, weighted = found.values()
    for network in ("critic", "log_alpha", "target_critic"):
        assert difference(plain[network], weighted[network]) is None
    assert difference(plain["actor"], weighted["actor"]) is not None


SETTINGS: dict[type, dict[str, Any]] = {
    MTPPO: {"width": 8, "rollout_per_task": 40, "epochs": 2, "minibatches": 2},
    MTSAC: {"width": 8, "depth": 2, "learning_starts": 8, "batch_per_task": 8},
}


def _agent(kind: type, **settings: Any) -> Any:
    env = fakes.FakeEnv(fakes.get_suite("mt10:fake"), 2, 1, "random", 0, 0.0)
    return kind(env, seed=1, device="cpu", **SETTINGS[kind] | settings)


@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
@pytest.mark.parametrize("heads", ["multi-head", "separate"])
def test_a_lambda_of_zero_learns_what_no_weights_learn(kind: type, heads: str) -> None:
    plain = _agent(kind, heads=heads).learn(240)
    zero = _agent(kind, heads=heads, sample_weighting="rmtl:lam=0").learn(240)
    other = _agent(kind, heads=heads, sample_weighting="rmtl:lam=5").learn(240)
    assert "sample_weighting" not in plain.state
    state = {name: zero.state[name] for name in plain.state}
    assert difference(state, plain.state) is None
    assert difference(other.state["actor"], zero.state["actor"]) is not None


@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_restored_agent_continues_bit_for_bit(
    kind: type, precision: str, tmp_path: Path
) -> None:
    settings = {"sample_weighting": "rmtl:lam=2", "precision": precision}
    agent, other = _agent(kind, **settings), _agent(kind, **settings)
    for each in (agent, other):
        each.begin(2000)
    for _ in range(2 if kind is MTPPO else 12):
        agent.advance()
    write_state(tmp_path / "state", agent.state_dict())
    saved, env = read_state(tmp_path / "state"), copy.deepcopy(agent.env.state_dict())
    assert (saved["networks"]["sample_weighting"]["updates"] > 0).all()
    other.env.load_state_dict(env)
    other.load_state_dict(saved)
    for each in (agent, other):
        for _ in range(2):
            each.advance()
    assert difference(agent.state_dict(), other.state_dict()) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rmtl:lam=-1", "sample_weighting.lam: .*-1.* is not a number of at least 0"),
        ("rmlt", "sample_weighting: 'rmlt' is unknown; did you mean 'rmtl'"),
    ],
)
def test_bad_settings_are_refused(text: str, message: str) -> None:
    with pytest.raises(AgentError, match=message):
        _agent(MTPPO, sample_weighting=text)
