"""Every solver over hundreds of drawn problems: none fails, what is certified is right, what is wrong is refused.

Float32 Gramians are what training hands in; all is solved in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, nnls
from torch import Tensor

from mtrl.agents.aggregators import (
    Inputs,
    Weights,
    cagrad,
    combine,
    gramian,
    interior,
    make_aggregator,
    quadratic,
)

KINDS = ("plain", "conflicting", "scaled", "low rank")
SIZES = (2, 3, 5, 10, 25, 50)
EACH = 20  # problems of a kind and size: 480 for each solver
SOLVERS: list[tuple[str, dict[str, object]]] = [
    *[("cagrad", {"c": c}) for c in (0.0, 0.01, 0.1, 0.4, 0.5, 0.9, 1.0, 2.0)],
    *[("cagrad-fast", {"c": c}) for c in (0.0, 0.5, 0.9)],
    ("mgda", {}),
    ("upgrad", {}),
    ("dualproj", {}),
    ("nash-mtl", {}),
    *[("fairgrad", {"a": a}) for a in (0.5, 1.0, 2.0)],
]
CAGRAD = (0.1, 0.5, 0.9)


@cache
def drawn(kind: str, m: int, count: int = EACH) -> Tensor:
    """``[count, m, 3 m]`` float64 rows of one kind."""
    rng = np.random.default_rng([KINDS.index(kind), m])
    return torch.as_tensor(np.stack([draw(kind, m, rng) for _ in range(count)]))


def draw(kind: str, m: int, rng: np.random.Generator) -> np.ndarray:
    rows = rng.standard_normal((m, 3 * m))
    if kind == "conflicting":
        rows -= rng.uniform(0.5, 1.0) * rows.mean(0)
        half = m // 2
        if rng.random() < 0.5:  # pairs of nearly opposite gradients
            rows[half : 2 * half] = (
                -rows[:half] + rng.uniform(0.01, 0.5) * rows[half : 2 * half]
            )
    elif kind == "scaled":
        rows *= 10.0 ** rng.uniform(-3, 3, (m, 1))
    elif kind == "low rank":
        rank = int(rng.integers(1, max(1, m // 2) + 1))
        rows = rng.standard_normal((m, rank)) @ rng.standard_normal((rank, 3 * m))
    return rows


def solve(name: str, rows: Tensor, **params: object) -> Weights:
    """Verdicts and weights for ``[n, m, P]`` rows."""
    aggregator = make_aggregator(name, **params)
    shape = aggregator.noise_shape(rows.shape[-2])
    noise = None
    if shape is not None:
        noise = torch.rand((len(rows), *shape), generator=torch.Generator().manual_seed(0))
    state = aggregator.init(rows.shape[-2], batch_shape=(len(rows),))
    out, _ = aggregator.weights(Inputs(gramian=gramian(rows), noise=noise), state)
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "params"), SOLVERS)
def test_no_solve_fails(name: str, params: dict[str, object], dtype: torch.dtype) -> None:
    failures = {}
    for kind in KINDS:
        for m in SIZES:
            out = solve(name, drawn(kind, m).to(dtype), **params)
            failed = int((~out.converged).sum())
            if failed:
                failures[kind, m] = (failed, float(out.residual.max()))
    assert failures == {}


@pytest.mark.parametrize("name", ["imtl-g", "config"])
def test_equal_projections_converge_where_they_exist(name: str) -> None:
    """More tasks than dimensions have no direction with equal projections: least squares tells which have."""
    exist = 0
    for kind in KINDS:
        for m in SIZES:
            rows = drawn(kind, m)
            unit = rows / rows.norm(dim=-1, keepdim=True)
            ones = torch.ones(EACH, m, 1, dtype=torch.float64)
            miss = (
                (unit @ (torch.linalg.pinv(unit, rtol=1e-9) @ ones) - ones).abs().amax((-1, -2))
            )
            assert torch.equal(solve(name, rows).converged, miss < 1e-3), (kind, m)
            exist += int((miss < 1e-3).sum())
    assert exist >= 3 * len(SIZES) * EACH


@pytest.mark.parametrize("name", ["cagrad", "cagrad-fast"])
@pytest.mark.parametrize("kind", KINDS)
def test_without_radius_the_weights_are_those_of_the_mean(name: str, kind: str) -> None:
    for m in SIZES:
        out = solve(name, drawn(kind, m), c=0.0)
        assert out.converged.all()
        assert torch.equal(out.residual, torch.zeros(EACH, dtype=torch.float64))
        torch.testing.assert_close(
            out.weights, torch.full_like(out.weights, 1 / m), rtol=1e-12, atol=0
        )


def objective(rows: np.ndarray, c: float) -> tuple[Callable[[np.ndarray], float], np.ndarray]:
    """CAGrad's objective of unit gradients' weights y = w ‖g‖ / min ‖g‖, over ``‖g0‖ min ‖g‖``; and 1/that of w."""
    norms = np.linalg.norm(rows, axis=1)
    unit = rows / norms[:, None]
    mean = rows.mean(0) / np.linalg.norm(rows.mean(0))
    return lambda y: float(y @ unit @ mean + c * np.linalg.norm(y @ unit)), norms.min() / norms


@pytest.mark.parametrize("c", CAGRAD)
@pytest.mark.parametrize("kind", KINDS)
def test_certified_weights_of_cagrad_attain_the_minimum(kind: str, c: float) -> None:
    """No worse than scipy's minimum from the vertices and the centre, to 2e-5 of ``‖g0‖ Σ w_i ‖g_i‖``: the ridge on the
    float64 Gramian, 1e-10, is seen by a vanishing norm as its root."""
    for m in (2, 3, 5, 10):
        rows = drawn(kind, m)[:6]
        out = solve("cagrad", rows, c=c)
        assert out.converged.all()
        for problem, weights in zip(rows.numpy(), out.weights.numpy(), strict=True):
            value, a = objective(problem, c)
            w = (weights - 1 / m).clip(min=0)
            if not weights.any():  # Pareto-stationary: zero is in the hull, and is the minimum
                found, size = 0.0, 1.0
            else:
                y = w / w.sum() / a
                found, size = value(y), y.sum()
            bounds = [(0, None)] * m
            constraint = {"type": "eq", "fun": lambda y, a=a: y @ a - 1}
            starts = [np.full(m, 1 / a.sum()), *(np.eye(m) / a)]
            best = min(value(start) for start in starts)
            for start in starts[:3]:
                reference = minimize(
                    value, start, bounds=bounds, constraints=[constraint], method="SLSQP"
                )
                feasible = np.abs(reference.x @ a - 1) < 1e-9 and reference.x.min() >= -1e-12
                best = min(best, reference.fun if feasible else best)
            assert found <= best + 2e-5 * size


@pytest.mark.parametrize("c", CAGRAD)
@pytest.mark.parametrize("kind", KINDS)
def test_certified_directions_of_cagrad_attain_the_dual(kind: str, c: float) -> None:
    """The worst gain of d, and ``g_w·g0 + c ‖g0‖ ‖g_w‖``, agree to 5e-5 in units of ``‖g0‖ ‖g_i‖`` of every task, and
    to 1e-6 where the ridge of 1e-10 does not show in ``‖g_w‖``."""
    for m in SIZES:
        rows = drawn(kind, m)
        out = solve("cagrad", rows, c=c)
        mean = rows.mean(-2)
        length = mean.norm(dim=-1, keepdim=True)
        direction = combine(rows, out.weights)
        assert out.converged.all()
        moving = (out.weights != 0).any(-1)
        assert (
            (direction - mean).norm(dim=-1)[moving] <= c * length[moving, 0] * (1 + 1e-6)
        ).all()
        weights = (out.weights - 1 / m).clamp(min=0)
        weights = weights / weights.sum(-1, keepdim=True)
        worst = combine(rows, weights)
        value = (worst * mean).sum(-1, keepdim=True) + c * length * worst.norm(
            dim=-1, keepdim=True
        )
        gains = (rows @ direction.unsqueeze(-1)).squeeze(-1)
        short = (value - gains) / (length * rows.norm(dim=-1))
        assert short[moving].max() < 5e-5
        clear = moving & (worst.norm(dim=-1) > 1e-2 * length.squeeze(-1))
        assert (short[clear] < 1e-6).all()


@pytest.mark.parametrize("kind", KINDS)
def test_certified_weights_of_mgda_are_the_shortest(kind: str) -> None:
    """``‖d‖`` is that of scipy's non-negative least squares (Lawson & Hanson), to 2e-5 of the shortest gradient."""
    for m in SIZES:
        rows = drawn(kind, m)[:8]
        out = solve("mgda", rows)
        assert out.converged.all()
        for problem, weights in zip(rows.numpy(), out.weights.numpy(), strict=True):
            norms = np.linalg.norm(problem, axis=1)
            a = norms.min() / norms
            stacked = np.vstack([(problem / norms[:, None]).T, a])
            y, _ = nnls(stacked, np.append(np.zeros(problem.shape[1]), 1.0), maxiter=100 * m)
            w = y * a / (y @ a)
            length, best = np.linalg.norm(weights @ problem), np.linalg.norm(w @ problem)
            assert length <= best + 2e-5 * norms.min()


@pytest.mark.parametrize("kind", KINDS)
def test_certified_weights_of_dualproj_are_the_projection(kind: str) -> None:
    """scipy's non-negative least squares on the regularised rows gives the same weights to 1e-6 of the largest."""
    for m in SIZES:
        rows = drawn(kind, m)[:8]
        out = solve("dualproj", rows)
        assert out.converged.all()
        for problem, weights in zip(rows.numpy(), out.weights.numpy(), strict=True):
            scale = np.linalg.norm(problem)
            # Reg 1e-4, in units of the trace.
            stacked = np.vstack([problem.T / scale, 1e-2 * np.eye(m)])
            root = np.linalg.norm(stacked, axis=0)
            lowest = np.full(m, 1 / m)
            extra, _ = nnls(stacked / root, -stacked @ lowest, maxiter=100 * m)
            expected = lowest + extra / root
            np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-6 * expected.max())


def moved(x: Tensor) -> Tensor:
    """x with up to a fifth of its mean entry added, more to the later ones."""
    ramp = torch.linspace(0, 2, x.shape[-1], dtype=x.dtype)
    return x + 0.1 * x.mean(-1, keepdim=True) * ramp


@pytest.mark.parametrize(
    ("name", "params"),
    [*[("cagrad", {"c": c}) for c in CAGRAD], ("mgda", {}), ("upgrad", {}), ("dualproj", {})],
)
def test_weights_off_by_a_tenth_are_refused(
    name: str, params: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a solver returns is moved before it is judged; the duals are left alone."""
    expected = {m: solve(name, drawn("conflicting", m), **params).weights for m in (3, 10)}
    replaced = {
        (cagrad, "_guess"): lambda old: (old[0], moved(old[1]), old[2]),
        (cagrad, "_pivot"): lambda old: moved(old),
        (cagrad, "norm_interior"): lambda old, *args: (moved(old[0]), *old[1:]),
        (quadratic, "_pivot"): lambda old: moved(old),
        (quadratic, "_admm"): lambda old: moved(old),
        (quadratic, "nonneg_interior"): lambda old, *args: (moved(old[0]), old[1]),
    }
    for (module, attribute), change in replaced.items():
        solver = getattr(module, attribute)
        monkeypatch.setattr(
            module, attribute, lambda *a, f=solver, g=change, **k: g(f(*a, **k))
        )
    for m, weights in expected.items():
        out = solve(name, drawn("conflicting", m), **params)
        wrong = (out.weights - weights).abs().amax(-1) > 1e-3 * weights.abs().amax(-1)
        assert wrong.sum() >= EACH / 4
        assert not out.converged[wrong].any()


@pytest.mark.parametrize(
    ("name", "params"), [s for s in SOLVERS if s[0] not in ("nash-mtl", "fairgrad")]
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_certificate_does_not_depend_on_the_scale(
    name: str, params: dict[str, object], kind: str
) -> None:
    """Powers of two scale without rounding: verdict and residual keep their bytes."""
    rows = drawn(kind, 10)
    plain = solve(name, rows, **params)
    for scale in (2.0**-30, 2.0**30):
        scaled = solve(name, rows * scale, **params)
        assert torch.equal(scaled.residual, plain.residual)
        assert torch.equal(scaled.weights, plain.weights)


@pytest.mark.parametrize("name", ["cagrad", "mgda", "dualproj"])
def test_a_hard_problem_leaves_the_others_of_its_batch_alone(name: str) -> None:
    """The interior point method, forced on one problem, keeps the bytes of those that were solved before."""
    params = {"c": 0.9} if name == "cagrad" else {}
    hard = drawn("low rank", 50)
    alone = solve(name, drawn("plain", 50), **params)
    together = solve(name, torch.cat([drawn("plain", 50), hard]), **params)
    torch.testing.assert_close(together.weights[:EACH], alone.weights, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_interior_point_methods_alone(kind: str) -> None:
    """They solve what splitting and pivoting solve, to the same certificates."""
    for m in SIZES:
        rows = drawn(kind, m)
        cosine, norms, active = quadratic_inputs(rows)
        a = norms.amin(-1, keepdim=True) / norms
        mean = rows.mean(-2)
        b = (rows @ mean.unsqueeze(-1)).squeeze(-1) / norms / mean.norm(dim=-1, keepdim=True)
        for c in CAGRAD:
            x, _, dual = interior.norm_interior(cosine, a, b, c)
            _, _, gap = cagrad._certify(
                cosine, a, b, c, active, x, dual, torch.zeros_like(active)
            )
            assert gap.max() < 1e-7, (m, c)
        x, slope = interior.nonneg_interior(
            cosine + a.unsqueeze(-1) * a.unsqueeze(-2), -a.unsqueeze(-2)
        )
        assert x.min() > 0
        assert slope.min() > 0
        error = (
            torch.minimum(x, x @ (cosine + a.unsqueeze(-1) * a.unsqueeze(-2)) - a.unsqueeze(-2))
            .abs()
            .amax()
        )
        assert error < 1e-8, m


def quadratic_inputs(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Ridged cosines, norms, and all tasks as active."""
    norms = rows.norm(dim=-1)
    unit = rows / norms.unsqueeze(-1)
    cosine = gramian(unit) + 1e-9 * torch.eye(rows.shape[-2], dtype=rows.dtype)
    return cosine, norms, torch.ones_like(norms, dtype=torch.bool)
