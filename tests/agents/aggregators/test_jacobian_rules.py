"""Methods that need the Jacobian itself."""

import pytest
import torch

from mtrl.agents.agent import AgentError
from mtrl.agents.aggregators import Inputs, combine, gramian, make_aggregator, sparse_mask, wrap
from tests.agents.aggregators.cases import batch_of, inputs_for, jacobian


def test_graddrop_keeps_one_sign_per_coordinate() -> None:
    rows = torch.tensor([[1.0, 3.0, 2.0], [-3.0, 1.0, -2.0]])
    take = make_aggregator("graddrop")
    low, _ = take.direction(Inputs(jacobian=rows, noise=torch.tensor([0.2, 0.9, 0.4])), {})
    high, _ = take.direction(Inputs(jacobian=rows, noise=torch.tensor([0.3, 0.9, 0.6])), {})
    assert low.direction.tolist() == [1.0, 4.0, 2.0]
    assert high.direction.tolist() == [-3.0, 4.0, -2.0]
    leaky, _ = make_aggregator("graddrop", leak=1.0).direction(
        Inputs(jacobian=rows, noise=torch.rand(3)), {}
    )
    torch.testing.assert_close(leaky.direction, rows.sum(0))


def test_sam_gs_evens_out_norms_that_differ() -> None:
    rows = torch.tensor([[100.0, 0.0], [0.0, 1.0]]).double()
    aggregator = make_aggregator("sam-gs")
    out, _ = aggregator.direction(Inputs(jacobian=rows), aggregator.init(2, num_params=2))
    torch.testing.assert_close(out.direction, torch.tensor([50.5, 50.5]).double())


def test_sam_gs_momentum_is_divided_by_the_disagreement() -> None:
    """Norms 1 and 2: ψ = 0.8, so the first update is the sum over 0.2; equal norms meet the floor."""
    aggregator = make_aggregator("sam-gs", floor=0.05)
    for rows, divisor in (([[1.0, 0.0], [0.0, 2.0]], 0.2), ([[1.0, 0.0], [0.0, 1.0]], 0.05)):
        jac = torch.tensor(rows).double()
        out, _ = aggregator.direction(Inputs(jacobian=jac), aggregator.init(2, num_params=2))
        torch.testing.assert_close(out.direction, jac.sum(0) / divisor, rtol=1e-6, atol=1e-6)


def test_moco_tracks_gradients_and_heads_for_the_min_norm_point() -> None:
    rows = jacobian(0, 3, 12, "conflicting")
    aggregator, mgda = make_aggregator("moco", gamma=0.3), make_aggregator("mgda")
    state = aggregator.init(3, num_params=12)
    for step in range(200):
        out, state = aggregator.direction(Inputs(jacobian=rows), state)
        if step == 0:
            torch.testing.assert_close(state["rows"], 0.5 * rows.float())
    expected = combine(rows, mgda.weights(Inputs(gramian=gramian(rows)), {})[0].weights)
    torch.testing.assert_close(out.direction, expected, rtol=1e-3, atol=1e-3)


def test_db_mtl_balances_norms_of_log_gradients() -> None:
    rows = jacobian(0, 3, 12, "uneven")
    losses = torch.tensor([2.0, 0.5, 10.0], dtype=torch.float64)
    aggregator = make_aggregator("db-mtl")
    state = aggregator.init(3, num_params=12)
    out, state = aggregator.direction(Inputs(jacobian=rows, losses=losses), state)
    logs = rows / losses[:, None]
    norms = logs.norm(dim=1, keepdim=True)
    torch.testing.assert_close(out.direction, (norms.max() * logs / norms).sum(0))
    other = jacobian(1, 3, 12, "uneven")
    out, _ = aggregator.direction(Inputs(jacobian=other, losses=losses), state)
    keep = 0.9 / 2**0.5
    logs = keep * logs + (1 - keep) * other / losses[:, None]
    norms = logs.norm(dim=1, keepdim=True)
    torch.testing.assert_close(
        out.direction, (norms.max() * logs / norms).sum(0), rtol=1e-5, atol=1e-5
    )


def settle(rows: torch.Tensor, **params: object) -> torch.Tensor:
    aggregator = make_aggregator("gcond", **params)
    out, _ = aggregator.direction(
        Inputs(jacobian=rows), aggregator.init(len(rows), num_params=rows.shape[1])
    )
    return out.direction


@pytest.mark.parametrize("degrees", [60.0, 100.0, 115.0, 130.0, 140.0, 150.0, 175.0])
def test_gcond_pair_by_its_zone(degrees: float) -> None:
    """Two gradients, the first stronger: the formula of each zone, applied to the vectors."""
    angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    strong = torch.tensor([2.0, 0.0], dtype=torch.float64)
    weak = torch.stack([angle.cos(), angle.sin()])
    c = float(angle.cos())
    turn = 0.0
    if c < -0.8:
        turn = torch.pi
    elif c < -0.5:
        turn = torch.pi / 2 + torch.pi / 2 * ((c + 0.5) / -0.3) ** 2
    elif c < 0:
        turn = torch.pi / 2 * (1 - (c + 0.5) / 0.5)
    win, lose = (
        torch.tensor(turn).double().sin(),
        torch.tensor(min(turn, torch.pi / 2)).double().sin(),
    )
    settled_strong = strong - win * (strong @ weak) / (weak @ weak) * weak
    settled_weak = weak - lose * (strong @ weak) / (strong @ strong) * strong
    found = settle(torch.stack([strong, weak]))
    torch.testing.assert_close(found, (settled_strong + settled_weak) / 2, rtol=1e-6, atol=1e-7)


def test_gcond_leaves_agreement_alone_and_lessens_conflict() -> None:
    rows = jacobian(0, 4, 10).abs()
    torch.testing.assert_close(settle(rows), rows.mean(0))
    aggregator = make_aggregator("gcond", rounds=3)
    for seed in range(10):
        rows = jacobian(seed, 5, 30, "conflicting")
        out, _ = aggregator.direction(Inputs(jacobian=rows), aggregator.init(5, num_params=30))
        unit = rows / rows.norm(dim=1, keepdim=True)
        worst = -(unit @ unit.T).min()
        assert out.residual < worst


def test_gcond_averages_over_its_window_and_starts_anew() -> None:
    aggregator = make_aggregator("gcond", window=2)
    rows = [jacobian(seed, 3, 8).abs() for seed in range(3)]
    state, found = aggregator.init(3, num_params=8), []
    for jac in rows:
        out, state = aggregator.direction(Inputs(jacobian=jac), state)
        found.append(out.direction)
    torch.testing.assert_close(found[1], (rows[0] + rows[1]).mean(0) / 2, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[2], rows[2].mean(0), rtol=1e-5, atol=1e-6)


def test_flat_minima_adds_the_update_of_the_flatness_part() -> None:
    plain = make_aggregator("upgrad")
    aggregator = wrap(plain, flat_minima=0.05)
    rows, moved = jacobian(0, 4, 9, "conflicting"), jacobian(1, 4, 9, "conflicting")
    step = aggregator.perturbations(rows)
    torch.testing.assert_close(step.norm(dim=1), torch.full((4,), 0.05).double())
    torch.testing.assert_close(torch.cosine_similarity(step, rows, dim=1), torch.ones(4).double())
    out, _ = aggregator.direction(
        Inputs(jacobian=rows, perturbed_jacobian=moved), aggregator.init(4)
    )
    parts = [
        combine(j, plain.weights(Inputs(gramian=gramian(j)), {})[0].weights)
        for j in (rows, moved - rows)
    ]
    torch.testing.assert_close(out.direction, parts[0] + parts[1])
    assert torch.equal(aggregator.perturbations(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_flat_minima_keeps_two_states_and_batches() -> None:
    aggregator = wrap(make_aggregator("gradvac"), flat_minima=0.05)
    rows = batch_of(0, 2, 3, 6)
    state = aggregator.init(3, batch_shape=(2,))
    out, state = aggregator.direction(inputs_for(aggregator, rows), state)
    assert out.direction.shape == (2, 6)
    assert set(state) == {"loss.target", "flat.target"}
    assert not torch.equal(state["loss.target"], state["flat.target"])


def test_flat_minima_of_a_quadratic() -> None:
    """For L = ½ θᵀHθ the flatness part is exactly Hε: the perturbed gradients are those at θ + ε."""
    hessian = torch.diag(torch.tensor([1.0, 4.0]).double())
    theta = torch.tensor([1.0, 1.0]).double()
    rows = (hessian @ theta)[None]
    aggregator = wrap(make_aggregator("mean"), flat_minima=0.1)
    moved = (hessian @ (theta + aggregator.perturbations(rows)[0]))[None]
    out, _ = aggregator.direction(
        Inputs(jacobian=rows, perturbed_jacobian=moved), aggregator.init(1)
    )
    torch.testing.assert_close(out.direction, moved[0])


def test_sparse_mask_keeps_the_largest_inputs_of_every_neuron() -> None:
    weight = torch.tensor([[1.0, -5.0, 0.5], [0.0, 0.0, 0.0]])
    assert sparse_mask(weight, 2)[0].tolist() == [True, True, False]
    assert sparse_mask(weight, 2).sum(-1).tolist() == [2, 2]
    assert sparse_mask(weight, 9).all()
    assert sparse_mask(torch.randn(3, 4, 5), 2).sum(-1).eq(2).all()
    with pytest.raises(AgentError, match="keep=0"):
        sparse_mask(weight, 0)
