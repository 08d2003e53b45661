"""Mathematical properties of the Gramian methods, on random Jacobians."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtrl.agents.aggregators import (
    Inputs,
    combine,
    gramian,
    make_aggregator,
    projection,
    quadratic,
)
from mtrl.agents.aggregators.diagnostics import task_gains
from mtrl.agents.aggregators.interior import nonneg_interior
from tests.agents.aggregators.cases import jacobian

seeds = st.integers(0, 10_000)
sizes = st.integers(2, 12)
kinds = st.sampled_from(["full", "conflicting", "aligned", "duplicate", "uneven", "flat"])
few = settings(max_examples=25, deadline=None)

EQUIVARIANT = [
    *(
        "mean",
        "sum",
        "cagrad",
        "mgda",
        "imtl-g",
        "config",
        "nash-mtl",
        "fairgrad",
        "aligned-mtl",
        "upgrad",
        "dualproj",
    ),
]
# d(s J) = s^k d(J).
HOMOGENEOUS = dict.fromkeys(EQUIVARIANT, 1.0) | {
    "nash-mtl": 0.0,
    "fairgrad": 0.0,
    "pcgrad": 1.0,
    "gradvac": 1.0,
}


def solve(
    name: str, rows: Tensor, noise: Tensor | None = None, **params: object
) -> tuple[Tensor, Tensor]:
    """Weights and direction; asserts that the solve converged."""
    aggregator = make_aggregator(name, **params)
    shape = aggregator.noise_shape(len(rows))
    if shape is not None and noise is None:
        noise = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    out, _ = aggregator.weights(
        Inputs(gramian=gramian(rows), noise=noise), aggregator.init(len(rows))
    )
    assert out.converged, (name, float(out.residual))
    return out.weights, combine(rows, out.weights)


@pytest.mark.parametrize("name", EQUIVARIANT)
@few
@given(seed=seeds, m=sizes, kind=kinds)
def test_permutation_equivariance(name: str, seed: int, m: int, kind: str) -> None:
    rows = jacobian(seed, m, 4 * m, kind)
    order = torch.randperm(m, generator=torch.Generator().manual_seed(seed))
    _, direction = solve(name, rows)
    _, permuted = solve(name, rows[order])
    torch.testing.assert_close(permuted, direction, rtol=1e-5, atol=1e-6 * float(rows.norm()))


@pytest.mark.parametrize("name", HOMOGENEOUS)
@few
@given(seed=seeds, m=sizes, exponent=st.integers(-10, 15))
def test_scaling(name: str, seed: int, m: int, exponent: int) -> None:
    rows = jacobian(seed, m, 4 * m, "conflicting")
    scale = 10.0**exponent
    _, direction = solve(name, rows)
    _, scaled = solve(name, rows * scale)
    torch.testing.assert_close(
        scaled / scale ** HOMOGENEOUS[name], direction, rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize(
    "name", ["mgda", "imtl-g", "nash-mtl", "fairgrad", "upgrad", "dualproj"]
)
@few
@given(seed=seeds, m=sizes, kind=kinds)
def test_no_task_is_made_worse(name: str, seed: int, m: int, kind: str) -> None:
    """``J d ≥ 0``; the regularised projections may fall short by as much as the regularisation."""
    regularised = name in ("upgrad", "dualproj")
    # Their regularisation is in units of the trace: tasks with gradients a hundred times smaller are not protected.
    rows = jacobian(seed, m, 4 * m, "full" if regularised and kind == "uneven" else kind)
    weights, direction = solve(
        name, rows, **({"reg": 1e-8, "pivots": 20} if regularised else {})
    )
    gains = task_gains(gramian(rows), weights) / direction.norm()
    assert gains.min() > -1e-4 or (name == "imtl-g" and gains.max() - gains.min() < 1e-6)


@few
@given(seed=seeds, m=sizes, kind=kinds)
def test_mgda_optimality(seed: int, m: int, kind: str) -> None:
    """On the simplex, and ``g_i · d ≥ ‖d‖²`` for all i: the zero duality gap of the min-norm point."""
    rows = jacobian(seed, m, 3 * m, kind)
    weights, direction = solve("mgda", rows)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    gap = (direction @ direction - rows @ direction) / (
        rows.norm(dim=1) * rows.norm(dim=1).min()
    )
    assert gap.max() < 1e-6


@few
@given(seed=seeds, m=sizes, kind=kinds)
def test_upgrad_kkt(seed: int, m: int, kind: str) -> None:
    """DualProj's v solves ``min vᵀGv, v ≥ 1/m``: feasible, dual feasible, complementary (regularised Gramian)."""
    rows = jacobian(seed, m, 3 * m, kind)
    weights, _ = solve("dualproj", rows, pivots=20)
    matrix = gramian(rows) / gramian(rows).trace() + 1e-4 * torch.eye(m, dtype=torch.float64)
    slack, multiplier = weights - 1 / m, matrix @ weights
    scale = multiplier.abs().max()
    assert slack.min() > -1e-9
    assert multiplier.min() > -1e-7 * scale
    assert (slack * multiplier).abs().max() < 1e-7 * scale * weights.max()


@few
@given(seed=seeds, m=sizes, kind=kinds)
def test_methods_leave_the_mean_alone_where_nothing_conflicts(
    seed: int, m: int, kind: str
) -> None:
    rows = jacobian(seed, m, 3 * m, kind).abs()
    mean = rows.mean(0)
    for name, params in (("pcgrad", {"reduction": "mean"}), ("upgrad", {}), ("dualproj", {})):
        torch.testing.assert_close(solve(name, rows, **params)[1], mean)


@few
@given(seed=seeds, kind=kinds)
def test_pcgrad_is_upgrad_for_two_tasks(seed: int, kind: str) -> None:
    """Up to UPGrad's ridge, which at ``reg=0`` is still 5e-11 of the trace and shows where norms differ by 1e4."""
    rows = jacobian(seed, 2, 6, kind)
    conflict, squares = (rows[0] @ rows[1]).clamp(max=0), rows.square().sum(1)
    for (name, params), ridge in (
        (("pcgrad", {"reduction": "mean"}), 0.0),
        (("upgrad", {"reg": 0.0}), 5e-11),
    ):
        # A gradient of zero conflicts with nothing.
        divisors = (squares + ridge * squares.sum()).clamp(min=1e-300)
        expected = (rows - conflict * (rows / divisors.unsqueeze(1)).flip(0)).mean(0)
        _, found = solve(name, rows, **params)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7 * float(rows.norm()))


@few
@given(seed=seeds, m=sizes, kind=kinds)
def test_pcgrad_against_the_vectors_themselves(seed: int, m: int, kind: str) -> None:
    rows = jacobian(seed, m, 2 * m, kind)
    noise = torch.rand(m, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = torch.zeros_like(rows[0])
    for i in range(m):
        corrected = rows[i].clone()
        for j in [int(j) for j in noise[i].argsort() if int(j) != i]:
            inner = corrected @ rows[j]
            corrected = corrected - inner.clamp(max=0) / (rows[j] @ rows[j]) * rows[j]
        expected += corrected
    _, summed = solve("pcgrad", rows, noise, reduction="sum")
    torch.testing.assert_close(summed, expected, rtol=1e-7, atol=1e-7)


@few
@given(seed=seeds, m=sizes)
def test_gradvac_against_the_vectors_themselves(seed: int, m: int) -> None:
    aggregator = make_aggregator("gradvac", beta=0.3, reduction="sum")
    state, target = aggregator.init(m), torch.zeros(m, m, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    for step in range(2):
        rows = jacobian(seed + step, m, 3 * m, "conflicting")
        noise = torch.rand(m, m, generator=generator, dtype=torch.float64)
        expected = torch.zeros_like(rows[0])
        for i in range(m):
            g = rows[i].clone()
            for j in [int(j) for j in noise[i].argsort() if int(j) != i]:
                phi, goal = torch.cosine_similarity(g, rows[j], dim=0), target[i, j].clone()
                if phi < goal:
                    up = g.norm() * (goal * (1 - phi**2).sqrt() - phi * (1 - goal**2).sqrt())
                    g = g + up / (rows[j].norm() * (1 - goal**2).sqrt()) * rows[j]
                    assert torch.cosine_similarity(g, rows[j], dim=0) == pytest.approx(
                        float(goal), abs=1e-6
                    )
                target[i, j] = 0.7 * goal + 0.3 * phi
            expected += g
        out, state = aggregator.weights(Inputs(gramian=gramian(rows), noise=noise), state)
        torch.testing.assert_close(combine(rows, out.weights), expected, rtol=1e-6, atol=1e-6)


@few
@given(seed=seeds, m=sizes, kind=kinds)
def test_pcgrad_orders_differ_between_tasks_and_draws(seed: int, m: int, kind: str) -> None:
    """Every order of partners is possible, and none is shared: weights depend on each row of the noise."""
    rows = jacobian(seed, 4, 3, "conflicting")
    generator = torch.Generator().manual_seed(seed)
    draws = torch.stack(
        [solve("pcgrad", rows, torch.rand(4, 4, generator=generator))[0] for _ in range(30)]
    )
    assert len(draws.round(decimals=9).unique(dim=0)) > 1


@few
@given(seed=seeds, m=sizes, kind=kinds, c=st.sampled_from([0.1, 0.5, 0.9]))
def test_cagrad_duality(seed: int, m: int, kind: str, c: float) -> None:
    """d lies in the ball, and its worst gain equals the dual value ``min_w g_w·g0 + c‖g0‖‖g_w‖``."""
    rows = jacobian(seed, m, 4 * m, kind)
    weights, direction = solve("cagrad", rows, c=c)
    mean = rows.mean(0)
    assert (direction - mean).norm() <= c * mean.norm() * (1 + 1e-9)
    convex = (weights - 1 / m).clamp(min=0)
    convex = convex / convex.sum()
    dual = rows.T @ convex @ mean + c * mean.norm() * (rows.T @ convex).norm()
    primal = (rows @ direction).min()
    assert primal == pytest.approx(float(dual), rel=1e-6, abs=1e-9)


def test_cagrad_fast_with_all_rows_is_cagrad_and_draws_every_task() -> None:
    rows = jacobian(0, 5, 20, "conflicting")
    torch.testing.assert_close(solve("cagrad-fast", rows, n=9)[1], solve("cagrad", rows)[1])
    counts = torch.zeros(5)
    for seed in range(200):
        noise = torch.rand(5, generator=torch.Generator().manual_seed(seed))
        counts[noise.argsort()[:1]] += 1
        weights, _ = solve("cagrad-fast", rows, noise, n=2)
        alone = noise.argsort()[0]
        rest = weights[torch.arange(5) != alone]
        torch.testing.assert_close(rest, rest[:1].expand(4))
    assert counts.min() > 20


@few
@given(seed=seeds, m=sizes, kind=kinds, a=st.sampled_from([0.5, 1.0, 2.0]))
def test_fairgrad_stationarity(seed: int, m: int, kind: str, a: float) -> None:
    """``(Gα)_i α_i^(1/a) = 1``, up to the ridge on the unit gradients."""
    if kind in ("duplicate", "uneven"):
        kind = "full"
    rows = jacobian(seed, m, 4 * m, kind)
    weights, _ = solve("fairgrad", rows, a=a, ridge=0.0)
    assert weights.min() > 0
    product = (gramian(rows) @ weights) * weights ** (1 / a)
    torch.testing.assert_close(product, torch.ones_like(product), rtol=1e-5, atol=1e-5)


@few
@given(seed=seeds, m=sizes, kind=kinds)
def test_nash_gains_are_shared_and_the_norm_is_clipped(seed: int, m: int, kind: str) -> None:
    rows = jacobian(seed, m, 4 * m, kind)
    weights, direction = solve("nash-mtl", rows)
    free, unclipped = solve("nash-mtl", rows, max_norm=0.0)
    assert direction.norm() == pytest.approx(1.0, abs=1e-4)
    assert unclipped.norm() == pytest.approx(math.sqrt(m), rel=1e-3)
    torch.testing.assert_close(weights / weights.sum(), free / free.sum())
    # Scaling one task's loss changes nothing: the Nash solution does not see it.
    scaled = rows.clone()
    scaled[0] *= 1000
    torch.testing.assert_close(solve("nash-mtl", scaled)[1], direction, rtol=1e-5, atol=1e-6)


@few
@given(seed=seeds, m=sizes, kind=kinds)
def test_equal_projections(seed: int, m: int, kind: str) -> None:
    rows = jacobian(seed, m, 4 * m, kind)
    unit = rows / rows.norm(dim=1, keepdim=True)
    for name in ("imtl-g", "config"):
        weights, direction = solve(name, rows)
        projections = unit @ direction
        torch.testing.assert_close(
            projections, projections.mean().expand(m), rtol=1e-6, atol=1e-9
        )
        if name == "imtl-g":
            assert weights.sum() == pytest.approx(1)
        else:
            assert direction.norm() == pytest.approx(
                float((rows @ direction).sum() / direction.norm())
            )


@few
@given(seed=seeds, m=sizes, scale=st.sampled_from(["min", "median", "rmse"]))
def test_aligned_gradients_are_orthogonal_and_of_one_length(
    seed: int, m: int, scale: str
) -> None:
    """``B J`` has the Gramian σI, so the update of every choice of preferences p has norm √σ ‖p‖."""
    rows = jacobian(seed, m, 4 * m)
    _, direction = solve("aligned-mtl", rows, scale=scale)
    values = torch.linalg.svdvals(rows).flip(0) ** 2
    sigma = {"min": values[0], "median": values[(m - 1) // 2], "rmse": values.mean()}[scale]
    assert direction.norm() == pytest.approx(float((sigma / m).sqrt()))


def test_pareto_stationary_points() -> None:
    """Opposite gradients: MGDA and the projections stop; Nash and FairGrad stay finite although no solution exists."""
    rows = torch.tensor([[1.0, 2.0], [-1.0, -2.0]], dtype=torch.float64)
    for name in ("mgda", "upgrad", "dualproj"):
        assert solve(name, rows)[1].norm() < 1e-3
    for name in ("nash-mtl", "fairgrad"):
        weights, direction = solve(name, rows)
        assert torch.isfinite(weights).all()
        assert direction.norm() < 1e-3


def test_an_unfinished_solve_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """More tasks than dimensions and no regularisation to speak of: hard enough for one active-set step to fail, and
    for an interior point method that is cut short after it."""
    monkeypatch.setattr(quadratic, "nonneg_interior", partial(nonneg_interior, steps=2))
    failed = 0
    for seed in range(20):
        out, _ = make_aggregator("upgrad", reg=1e-9, pivots=1).weights(
            Inputs(gramian=gramian(jacobian(seed, 20, 8))), {}
        )
        assert bool(out.converged) == bool(out.residual < 1e-6)
        assert torch.isfinite(out.weights).all()
        failed += not out.converged
    assert failed > 0


def test_upgrad_has_converged_where_every_projection_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    solved = torch.eye(2, dtype=torch.float64), torch.tensor([1e-9, 0.5]).double()
    monkeypatch.setattr(projection, "dual_cone", lambda *arguments: solved)
    out, _ = make_aggregator("upgrad").weights(Inputs(gramian=torch.eye(2)), {})
    assert float(out.residual) == 0.5
    assert not out.converged


def test_gradients_of_very_different_size() -> None:
    """Norms from 1e-10 to 1e15 in one Gramian: the small ones are still resolved."""
    rows = jacobian(0, 6, 60) * 10.0 ** torch.linspace(-10, 15, 6, dtype=torch.float64)[:, None]
    for name in ("mgda", "nash-mtl", "imtl-g"):
        weights, direction = solve(name, rows)
        assert (task_gains(gramian(rows), weights) / direction.norm()).min() > -1e-9
    unit = rows / rows.norm(dim=1, keepdim=True)
    torch.testing.assert_close(
        solve("nash-mtl", rows)[1], solve("nash-mtl", unit)[1], rtol=1e-6, atol=1e-9
    )
