"""Loss-only weightings, against values worked by hand."""

import math

import pytest
import torch
from torch import Tensor

from mtrl.agents.aggregators import Inputs, make_aggregator, parse_aggregator
from mtrl.agents.aggregators.igb import IGBv2


def weights_over(name: str, losses: list[list[float]], **params: object) -> list[Tensor]:
    aggregator = make_aggregator(name, **params)
    state = aggregator.init(len(losses[0]))
    found = []
    for row in losses:
        out, state = aggregator.weights(
            Inputs(losses=torch.tensor(row, dtype=torch.float64)), state
        )
        found.append(out.weights)
    return found


def expect(found: Tensor, *values: float) -> None:
    torch.testing.assert_close(
        found, torch.tensor(values, dtype=torch.float64), rtol=1e-6, atol=1e-9
    )


def test_learned_log_scales_by_hand() -> None:
    """Losses of 4 and ½ at s = 0: ``½ − ½ L`` is (−1.5, 0.25) for uncertainty, and ``L − 1`` is (3, −½) for IMTL-L."""
    losses = [[4.0, 0.5]] * 2
    first, second = weights_over("uncertainty", losses, lr=0.1)
    expect(first, 0.5, 0.5)
    expect(second, 0.5 * math.exp(-0.15), 0.5 * math.exp(0.025))
    first, second = weights_over("imtl-l", losses, lr=0.1)
    expect(first, 1.0, 1.0)
    expect(second, math.exp(-0.3), math.exp(0.05))


@pytest.mark.parametrize("name", ["uncertainty", "mean:weighting=uncertainty"])
def test_a_log_scale_at_its_bound_has_not_converged(name: str) -> None:
    """At s = 12 a loss of 1 lets s fall; one of 10⁹ would push it beyond, where it is held."""
    aggregator = parse_aggregator(name)
    state = aggregator.init(2)
    key = next(iter(state))
    state[key] = torch.tensor([0.0, 12.0], dtype=torch.float64)
    for loss, fine in ((1.0, True), (1e9, False)):
        inputs = Inputs(losses=torch.tensor([1.0, loss], dtype=torch.float64))
        out, after = aggregator.weights(inputs, state)
        assert bool(out.converged) == fine
        assert after[key][1] <= 12


def test_gls_is_the_slope_of_the_geometric_mean() -> None:
    expect(weights_over("gls", [[1.0, 4.0]])[0], 1.0, 0.25)
    # A loss of 0 has no logarithm.
    zero = Inputs(losses=torch.tensor([0.0, 4.0], dtype=torch.float64))
    assert not make_aggregator("gls").weights(zero, {})[0].converged


def test_smooth_tchebycheff_looks_at_the_largest_loss_whatever_its_sign() -> None:
    expect(weights_over("smooth-tchebycheff", [[-5.0, -1.0]], mu=1e-3)[0], 0.0, 0.5)
    expect(weights_over("smooth-tchebycheff", [[2.0, 2.0]])[0], 0.25, 0.25)
    tracked = weights_over("smooth-tchebycheff", [[1.0, 9.0], [3.0, 9.0]], mu=1e-3, track=True)
    expect(tracked[1], 0.5, 0.0)


def test_dwa_by_hand() -> None:
    found = weights_over("dwa", [[2.0, 2.0], [1.0, 2.0], [9.0, 9.0]], period=1, temperature=1.0)
    expect(found[0], 1.0, 1.0)
    expect(found[1], 1.0, 1.0)
    slow = math.exp(1.0) / (math.exp(1.0) + math.exp(0.5))
    expect(found[2], 2 * (1 - slow), 2 * slow)


def test_igb_v1_weighs_log_losses() -> None:
    """L_base is (2, 4), the mean of the first epoch. The gradient of w log L is w/L times that of L."""
    losses = [[1.0, 3.0], [3.0, 5.0], [2.0, 2.0], [4.0, 4.0]]
    found = weights_over("igb-v1", losses, period=2)
    expect(found[0], 1.0, 1 / 3)
    expect(found[1], 1 / 3, 1 / 5)
    # Ratios 1 and 0.5, then 2 and 1.
    share = math.e / (math.e + math.e**0.5)
    expect(found[2], 2 * share / 2, 2 * (1 - share) / 2)
    share = math.e**2 / (math.e**2 + math.e)
    expect(found[3], 2 * share / 4, 2 * (1 - share) / 4)


def test_igb_v1_can_take_a_later_epoch_as_its_base() -> None:
    losses = [[8.0, 8.0], [1.0, 2.0], [1.0, 4.0], [1.0, 4.0]]
    found = weights_over("igb-v1", losses, period=1, base_epoch=2)
    expect(found[1], 1.0, 0.5)
    share = math.e / (math.e + math.e**2)
    # And it stays the base.
    for later in found[2:]:
        expect(later, 2 * share, 2 * (1 - share) / 4)


def test_lbtw_by_hand() -> None:
    found = weights_over("lbtw", [[2.0, 2.0, 2.0], [2.0 * 0.81, 20.0, 0.01]])
    expect(found[0], 1.0, 1.0, 1.0)
    expect(found[1], 0.9, 1.5, 0.5)


def test_lbtw_takes_its_reference_anew_every_period() -> None:
    """With one reference for ever, losses that fell a hundredfold would keep both weights at 0.5."""
    losses = [[100.0, 100.0], [1.0, 1.0], [1.0, 2.0], [0.81, 2.0]]
    found = weights_over("lbtw", losses, period=2)
    expect(found[1], 0.5, 0.5)
    expect(found[2], 1.0, 1.0)
    expect(found[3], 0.9, 1.0)


@pytest.mark.parametrize(
    ("gamma", "expected"),
    [(1.0, (0.0, 1 / 3, 2 / 3)), (0.0, (1 / 3,) * 3), (2.0, (0.0, 0.2, 0.8))],
)
def test_success_focal(gamma: float, expected: tuple[float, ...]) -> None:
    aggregator = make_aggregator("success-focal", gamma=gamma)
    out, _ = aggregator.weights(Inputs(success=torch.tensor([1.0, 0.5, 0.0]).double()), {})
    expect(out.weights, *expected)
    solved, _ = aggregator.weights(Inputs(success=torch.ones(4).double()), {})
    expect(solved.weights, *(0.25,) * 4)


def gradnorm(losses: list[list[float]], **params: object) -> list[Tensor]:
    """Weights of successive updates for gradients of lengths 2 and 1."""
    aggregator = make_aggregator("gradnorm", **params)
    matrix = torch.diag(torch.tensor([4.0, 1.0]).double())
    state = aggregator.init(2)
    found = []
    for row in losses:
        inputs = Inputs(gramian=matrix, losses=torch.tensor(row).double())
        out, state = aggregator.weights(inputs, state)
        found.append(out.weights)
    return found


def test_gradnorm_by_hand() -> None:
    """Norms in units of their weighted mean are first (4, 2)/3, and the targets 1: w = (1 − 0.4/3, 1 + 0.2/3) up to Σ.

    Then w = (26, 32)/29, whose weighted norms are (26, 16)/21. Losses at 1 and ⅔ of the first ones have rates of 1.2
    and 0.8 of their mean, so the targets are 1.2^1.5 = 1.31 and 0.8^1.5 = 0.72: the first weight grows and the second
    falls, where α = 1 would do the opposite. Step sizes are 0.1 times the norms (29, 14.5)/21.
    """
    first, second = gradnorm([[3.0, 6.0], [3.0, 4.0]], lr=0.1)
    expect(first, 26 / 29, 32 / 29)
    grown, fallen = 26 / 29 + 2.9 / 21, 32 / 29 - 1.45 / 21
    total = grown + fallen
    expect(second, 2 * grown / total, 2 * fallen / total)


def test_gradnorm_keeps_every_weight_above_its_floor() -> None:
    """A step of 1 would take the first weight to −⅓: it stays at ½, beside 5/3, and both are scaled to a sum of 2."""
    expect(gradnorm([[1.0, 1.0]], lr=1.0, floor=0.5)[0], 6 / 13, 20 / 13)


def ega_over(losses: list[list[float]], **params: object) -> list[Tensor]:
    """The second factor of EGA's weights in each update, at a fixed Gramian."""
    aggregator = make_aggregator("ega", **params)
    matrix = torch.diag(torch.tensor([4.0, 1.0]).double())
    aligned, _ = make_aggregator("aligned-mtl").weights(Inputs(gramian=matrix), {})
    state = aggregator.init(2)
    found = []
    for row in losses:
        inputs = Inputs(gramian=matrix, losses=torch.tensor(row).double())
        out, state = aggregator.weights(inputs, state)
        found.append(out.weights / aligned.weights)
    return found


def test_ega_compares_with_the_epoch_after_the_warm_up() -> None:
    """Epochs of two updates: a warm-up, the nadir (4, 2), then means (2, 2): ratios 0.5 and 1, over T = 2."""
    losses = [[9.0, 9.0], [9.0, 9.0], [3.0, 1.0], [5.0, 3.0], [1.0, 1.0], [3.0, 3.0]]
    found = ega_over(losses, period=2, warmup=1, temperature=2.0)
    for early in found[:5]:
        expect(early, 1.0, 1.0)
    share = math.e**0.25 / (math.e**0.25 + math.e**0.5)
    expect(found[5], 2 * share, 2 * (1 - share))


def test_ega_keeps_its_nadir_while_losses_fall() -> None:
    """A reference that follows the best loss would give a ratio of 1, and no effect, in every update."""
    losses = [[1.0, 1.0], [0.5, 1.0], [0.25, 1.0]]
    found = ega_over(losses, period=1, warmup=0)
    for update, ratio in ((1, 0.5), (2, 0.25)):
        share = math.exp(ratio) / (math.exp(ratio) + math.e)
        expect(found[update], 2 * share, 2 * (1 - share))


def test_random_weights_are_a_softmax_of_normals() -> None:
    aggregator = make_aggregator("random")
    noise = torch.rand(
        20_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    out, _ = aggregator.weights(Inputs(losses=torch.zeros(20_000, 3), noise=noise), {})
    torch.testing.assert_close(out.weights.sum(-1), torch.ones(20_000).to(out.weights))
    logs = out.weights.double().log()
    gaps = logs[:, 0] - logs[:, 1]
    assert gaps.mean() == pytest.approx(0.0, abs=0.05)
    assert gaps.var() == pytest.approx(2.0, abs=0.1)


def test_igb_v2_passes_through_its_phases() -> None:
    """Weights 1 in the first epoch of two updates, random in the next, then the policy's. The first transition begins
    where the base is known, so of eight updates five are remembered."""
    aggregator = make_aggregator("igb-v2", period=2, start=2, hidden=8, capacity=16, batch=4)
    state = aggregator.init(2)
    initial = state["actor"].clone()
    generator = torch.Generator().manual_seed(0)
    losses = torch.tensor([1.5, 0.5], dtype=torch.float64)
    for step in range(8):
        noise = torch.rand(aggregator.noise_shape(2), generator=generator, dtype=torch.float64)
        out, state = aggregator.weights(Inputs(losses=losses, noise=noise), state)
        # The gradient of a log loss is that of the loss over it, so the policy's weights are w L.
        found = out.weights * losses
        random = 2 * torch.special.ndtri(noise[:2]).softmax(-1)
        assert found.sum() == pytest.approx(2.0)
        if step < 2:
            expect(found, 1.0, 1.0)
        else:
            assert torch.allclose(found, random) == (step < 4)
    assert state["stored"] == 5
    assert not torch.equal(state["actor"], initial)
    assert all(torch.isfinite(value).all() for value in state.values())


def test_igb_v2_remembers_the_least_improvement_by_hand() -> None:
    """From (1, 0.5) to (0.7, 0.6) the tasks improve by 0.3 and −0.1. The fifth transition replaces the second."""
    aggregator = IGBv2(hidden=2, capacity=3, batch=2)
    pair = {"obs": [1.0, 0.5], "action": [1.5, 0.5]}
    state = aggregator.init(2) | {
        name: torch.tensor(value, dtype=torch.float64) for name, value in pair.items()
    }
    state["stored"] += 4
    obs = torch.tensor([0.7, 0.6], dtype=torch.float64)
    memory, stored = aggregator._remember(state, obs)
    assert stored == 4
    assert not memory.any()
    memory, stored = aggregator._remember(state | {"primed": stored * 0 + 1}, obs)
    assert stored == 5
    expect(memory[1], 1.0, 0.5, 1.5, 0.5, -0.1, 0.7, 0.6)
    assert not memory[[0, 2]].any()


def test_igb_v2_learns_by_hand() -> None:
    """Networks of zeros, α = 0.2 and normal draws of 0: the log density of two standard normals is −1.84.

    With targets of −1 and 1, a critic's goal is 0.1 + 0.9 (−1 + 0.2 · 1.84) = −0.47, so its output bias falls. The
    actor gains entropy alone, by larger deviations. An entropy of 1.84 is above its target of −2, so α falls. Adam's
    first step is the step size, and the targets take 0.005 of the critics.
    """
    aggregator = IGBv2(hidden=2, capacity=1, batch=2, lr=0.01, gamma=0.9)
    state = aggregator.init(2)
    for name in ("actor", "critic", "target"):
        state[name].zero_()
    state["target"][:, -1] = torch.tensor([-1.0, 1.0])
    memory = torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.1, 1.0, 1.0]], dtype=torch.float64)
    one = torch.ones((), dtype=torch.float64)
    draws = torch.zeros(2, 2, 2, dtype=torch.float64)
    new = aggregator._learn(state, memory, one, torch.zeros(2).double(), draws)
    goal = 0.1 + 0.9 * (-1 + 0.2 * math.log(2 * math.pi))
    for critic, moment in zip(new["critic"], new["critic.first"]):
        assert critic[-1] == pytest.approx(-0.01)
        assert not critic[:-1].any()
        # A tenth of the slope of the squared error.
        assert moment[-1] == pytest.approx(-0.2 * goal)
    expect(new["actor"][-4:], 0.0, 0.0, 0.01, 0.01)
    assert float(new["log_alpha"] - state["log_alpha"]) == pytest.approx(-0.01)
    expect(new["target"][:, -1], -1 + 0.005 * 0.99, 1 - 0.005 * 1.01)
