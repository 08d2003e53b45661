"""Methods that need the Jacobian itself."""

import pytest
import torch

from mtrl.agents.agent import AgentError
from mtrl.agents.aggregators import Inputs, combine, gramian, make_aggregator, sparse_mask, wrap
from tests.agents.aggregators.cases import batch_of, jacobian


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


def sam_gs(*updates: list[list[float]], **params: object) -> list[list[float]]:
    """Directions of successive updates, for rows of two tasks with two parameters."""
    aggregator = make_aggregator("sam-gs", **params)
    state = aggregator.init(2, num_params=2)
    found = []
    for rows in updates:
        jac = torch.tensor(rows, dtype=torch.float64)
        out, state = aggregator.direction(Inputs(jacobian=jac), state)
        found.append(out.direction.tolist())
    return found


def test_sam_gs_evens_out_norms_that_differ() -> None:
    """Norms 100 and 1 have similarity 0.02, below 0.1: both rows get the mean norm, 50.5."""
    assert sam_gs([[100.0, 0.0], [0.0, 1.0]])[0] == pytest.approx([50.5, 50.5])


def test_sam_gs_weighs_each_coordinate_by_its_own_task_moment() -> None:
    """Norms 1 and 2: ψ = 0.8, so √ĥ = 0.2, and with ε = 0.05 the divisor is 0.25 in both updates.

    First update: m̂ is the gradient itself, so |m̂| ⊙ g is (1, 0) and (0, −4).
    Second: m̂ = (0.9 · 0.1 · first + 0.1 · second) / (1 − 0.9²) = (9 first + 10 second) / 19, so that of task 1 is
    (9, 10)/19 and that of task 2 (20, −18)/19.
    """
    first = [[1.0, 0.0], [0.0, -2.0]]
    second = [[0.0, 1.0], [2.0, 0.0]]
    one, two = sam_gs(first, second, eps=0.05)
    assert one == pytest.approx([1 / 0.25, -4 / 0.25])
    assert two == pytest.approx([2 * 20 / 19 / 0.25, 10 / 19 / 0.25], rel=1e-5)


def test_sam_gs_moments_are_those_of_tasks_and_not_of_their_sum() -> None:
    """Opposite rows sum to zero, and so would a moment of their sum; each task's own moment does not vanish."""
    opposed = [[1.0, 2.0], [-1.0, -2.0]]
    turned = [[2.0, 1.0], [2.0, 1.0]]
    found = sam_gs(opposed, turned, eps=1.0)
    # Moments after two updates: (9 · ±(1, 2) + 10 · (2, 1)) / 19 = (29, 28)/19 and (11, −8)/19; √ĥ = 0.
    assert found[0] == pytest.approx([0.0, 0.0])
    assert found[1] == pytest.approx([2 * 40 / 19, 36 / 19], rel=1e-5)


def test_sam_gs_can_ask_for_any_pair() -> None:
    """Norms 1, 1, 3: similarities 1, 0.6 and 0.6, mean 0.733. Between the least and the mean, the tests differ."""
    rows = torch.diag(torch.tensor([1.0, 1.0, 3.0], dtype=torch.float64))
    found = {}
    for test in ("mean", "any"):
        aggregator = make_aggregator("sam-gs", gamma=0.7, test=test)
        state = aggregator.init(3, num_params=3)
        out, _ = aggregator.direction(Inputs(jacobian=rows), state)
        found[test] = out.direction.tolist()
    assert found["any"] == pytest.approx([5 / 3] * 3)
    scale = 1 / (1 - 2.2 / 3 + 1e-3)
    assert found["mean"] == pytest.approx([scale, scale, 9 * scale], rel=1e-5)


def test_moco_by_hand() -> None:
    """Rows of lengths 2 and 1 at right angles, so YYᵀ in units of its mean diagonal is diag(1.6, 0.4) however much of
    them is tracked: ¼, then ¼ + ¾ · ¼ = 7/16.

    With ρ = 0.2 the slopes at (½, ½) are (0.9, 0.3): (0.41, 0.47) is 0.12 short of a sum of 1, which both make up.
    At (0.47, 0.53) they are (0.846, 0.318): (0.3854, 0.4982) is 0.1164 short.
    """
    rows = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    aggregator = make_aggregator("moco", beta=0.25, gamma=0.1, rho=0.2)
    state = aggregator.init(2, num_params=2)
    for tracked, weights in ((1 / 4, (0.47, 0.53)), (7 / 16, (0.4436, 0.5564))):
        out, state = aggregator.direction(Inputs(jacobian=rows), state)
        expected = [2 * tracked * weights[0], tracked * weights[1]]
        assert out.direction.tolist() == pytest.approx(expected)


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


def test_flat_minima_adds_the_update_of_the_flatness_part() -> None:
    plain = make_aggregator("upgrad")
    aggregator = wrap(plain, flat_minima=0.05)
    rows, moved = jacobian(0, 4, 9, "conflicting"), jacobian(1, 4, 9, "conflicting")
    step = aggregator.perturbations(rows)
    torch.testing.assert_close(step.norm(dim=1), torch.full((4,), 0.05).double())
    torch.testing.assert_close(
        torch.cosine_similarity(step, rows, dim=1), torch.ones(4).double()
    )
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
    """Each part goes on from a state of its own, as two aggregators would that never met."""
    plain = make_aggregator("gradvac")
    aggregator = wrap(plain, flat_minima=0.05)
    state = aggregator.init(3, batch_shape=(2,))
    parts = [plain.init(3, batch_shape=(2,)) for _ in range(2)]
    for seed in range(3):
        rows, flatness = batch_of(seed, 2, 3, 6, "conflicting"), batch_of(seed + 50, 2, 3, 6)
        noise = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(seed)).double()
        inputs = Inputs(jacobian=rows, perturbed_jacobian=rows + flatness, noise=noise)
        out, state = aggregator.direction(inputs, state)
        expected = torch.zeros(2, 6, dtype=torch.float64)
        for k, part in enumerate((rows, flatness)):
            own, parts[k] = plain.direction(Inputs(jacobian=part, noise=noise), parts[k])
            expected += own.direction
        torch.testing.assert_close(out.direction, expected)
    assert set(state) == {"loss.target", "flat.target"}


def test_flat_minima_has_converged_where_both_parts_have() -> None:
    """IMTL-G finds no equal projections on opposite gradients, whose residual is 1, and finds them at right angles."""
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    square = torch.eye(2, dtype=torch.float64)
    aggregator = wrap(make_aggregator("imtl-g"), flat_minima=0.05)
    for rows, flatness in ((opposite, square), (square, opposite)):
        inputs = Inputs(jacobian=rows, perturbed_jacobian=rows + flatness)
        out, _ = aggregator.direction(inputs, {})
        assert not out.converged
        assert float(out.residual) == pytest.approx(1.0)


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
