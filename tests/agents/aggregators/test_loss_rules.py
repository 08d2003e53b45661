"""Loss-only weightings, against values worked by hand."""

import math

import pytest
import torch
from torch import Tensor

from mtrl.agents.aggregators import Inputs, make_aggregator


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


def test_uncertainty_settles_where_the_log_variance_is_the_log_loss() -> None:
    """``∂/∂s (½ e^(−s) L + ½ s) = 0`` at ``e^s = L``, so w → 1/(2L)."""
    found = weights_over("uncertainty", [[4.0, 0.5]] * 400, lr=0.1)
    expect(found[0], 0.5, 0.5)
    expect(found[-1], 1 / 8, 1.0)


def test_imtl_l_drives_scaled_losses_to_one() -> None:
    expect(weights_over("imtl-l", [[4.0, 0.5]] * 400, lr=0.1)[-1], 0.25, 2.0)


def test_gls_is_the_slope_of_the_geometric_mean() -> None:
    expect(weights_over("gls", [[1.0, 4.0]])[0], 1.0, 0.25)


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
    losses = [[8.0, 8.0], [1.0, 2.0], [1.0, 4.0]]
    found = weights_over("igb-v1", losses, period=1, base_epoch=2)
    expect(found[1], 1.0, 0.5)
    share = math.e / (math.e + math.e**2)
    expect(found[2], 2 * share, 2 * (1 - share) / 4)


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


def test_famo_leans_to_the_task_that_improves_least() -> None:
    found = weights_over("famo", [[1.0 * 0.9**k, 1.0] for k in range(60)])
    share = found[-1] * torch.tensor([0.9**59, 1.0])
    assert share[1] > 0.6 * share.sum()
    assert found[-1].sum() == pytest.approx(1.0)


def test_gradnorm_pulls_weighted_norms_together_and_favours_slow_tasks() -> None:
    aggregator = make_aggregator("gradnorm", lr=0.01)
    matrix = torch.diag(torch.tensor([100.0, 1.0]).double())
    state = aggregator.init(2)
    for _ in range(400):
        out, state = aggregator.weights(
            Inputs(gramian=matrix, losses=torch.ones(2).double()), state
        )
    norms = out.weights * torch.tensor([10.0, 1.0])
    assert norms[0] / norms[1] == pytest.approx(1.0, abs=0.3)
    assert out.weights.sum() == pytest.approx(2.0)
    equal, state = torch.eye(2).double(), aggregator.init(2)
    for step in range(50):
        losses = torch.tensor([1.0 if step == 0 else 0.1, 1.0]).double()
        out, state = aggregator.weights(Inputs(gramian=equal, losses=losses), state)
    assert out.weights[1] > 1.2 > 0.8 > out.weights[0]


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
    """Epochs of two updates: a warm-up, the nadir (4, 2), then means (2, 2): ratios 0.5 and 1."""
    losses = [[9.0, 9.0], [9.0, 9.0], [3.0, 1.0], [5.0, 3.0], [1.0, 1.0], [3.0, 3.0]]
    found = ega_over(losses, period=2, warmup=1)
    for early in found[:5]:
        expect(early, 1.0, 1.0)
    share = math.e**0.5 / (math.e**0.5 + math.e)
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


def test_igb_v2_passes_through_its_phases_and_its_policy_changes() -> None:
    """Weights 1 in the first epoch, then random, then the policy's; memory fills, networks move and stay finite."""
    aggregator = make_aggregator(
        "igb-v2", period=20, start=3, hidden=16, capacity=256, batch=32, lr=3e-3, gamma=0.0
    )
    state = aggregator.init(2)
    generator = torch.Generator().manual_seed(0)
    losses, late = torch.ones(2, dtype=torch.float64), []
    for step in range(400):
        noise = torch.rand(aggregator.noise_shape(2), generator=generator, dtype=torch.float64)
        out, state = aggregator.weights(Inputs(losses=losses, noise=noise), state)
        # The gradient of a log loss is that of the loss over it, so the policy's weights are w L.
        assert (out.weights * losses).sum() == pytest.approx(2.0)
        if step < 20:
            expect(out.weights * losses, 1.0, 1.0)
        losses = torch.tensor(
            [1.5 - 0.5 * float(out.weights[0] * losses[0]), 1.0], dtype=torch.float64
        ).clamp(min=0.05)
        late += [out.weights] if step >= 300 else []
    assert state["stored"] > 300
    assert not torch.equal(state["actor"], aggregator.init(2)["actor"])
    assert all(torch.isfinite(v).all() for v in state.values())
    assert torch.stack(late).std() > 0


def test_task_priorities_by_hand() -> None:
    """From κ of 0, successes of 1 and 0.5 give 0.1 and 0.05; a third task that never succeeds counts as 0.01."""
    aggregator = make_aggregator("dtp", gamma=2.0)
    success = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    out, state = aggregator.weights(Inputs(success=success), aggregator.init(3))
    priorities = [-((1 - kpi) ** 2) * math.log(kpi) for kpi in (0.1, 0.05, 0.01)]
    expected = torch.tensor(priorities, dtype=torch.float64)
    torch.testing.assert_close(out.weights, expected / expected.sum())
    torch.testing.assert_close(state["kpi"], 0.1 * success)
    for _ in range(100):
        out, state = aggregator.weights(Inputs(success=success), state)
    # A task that always succeeds keeps a weight.
    assert out.weights[0] > 0
    assert out.weights[2] > out.weights[1] > out.weights[0]
