"""Agreement with torchjd, an independent implementation, on hundreds of random matrices."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torchjd.aggregation as reference
import torchjd.scalarization as scalarization
from scipy.optimize import nnls
from torch import Tensor
from torchjd.linalg import DualConeProjector

from mtrl.agents.aggregators import Inputs, combine, gramian, make_aggregator
from tests.agents.aggregators.cases import KINDS, jacobian

RECORDED = json.loads((Path(__file__).parent / "torchjd_reference.json").read_text())


class NonNegativeLeastSquares(DualConeProjector):
    """The projection by Lawson and Hanson's active-set method: min ‖Lᵀ(u + z)‖ over z ≥ 0."""

    def __call__(self, vectors: Tensor, matrix: Tensor) -> Tensor:
        scaled = matrix / matrix.trace() + 1e-4 * torch.eye(len(matrix), dtype=matrix.dtype)
        factor = torch.linalg.cholesky(scaled).mT.numpy()
        rows = [
            u + nnls(factor, -factor @ u, maxiter=10_000)[0]
            for u in np.atleast_2d(vectors.numpy())
        ]
        return torch.from_numpy(np.array(rows)).reshape(vectors.shape)


def matrices(count: int, largest: int = 50, kinds: tuple[str, ...] = KINDS) -> Iterator[Tensor]:
    rng = np.random.default_rng(7)
    for seed in range(count):
        m = int(rng.integers(2, largest + 1))
        params = int(rng.integers(max(2, m // 2), 4 * m + 2))
        yield jacobian(seed, m, params, kinds[seed % len(kinds)])


def close(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> bool:
    return bool((a - b).norm() <= tolerance * max(b.norm(), a.norm()) + 1e-12)


def ours(name: str, rows: Tensor, **params: object) -> tuple[Tensor, bool]:
    out, _ = make_aggregator(name, **params).weights(Inputs(gramian=gramian(rows)), {})
    return combine(rows, out.weights), bool(out.converged)


@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e15])
@pytest.mark.parametrize(
    "case", RECORDED, ids=lambda c: f"{c['method']}-{c['m']}x{c['params']}-{c['kind']}"
)
def test_recorded_solver_backed_methods(case: dict[str, object], scale: float) -> None:
    """UPGrad, DualProj (quadprog), CAGrad (Clarabel) and Nash-MTL (ECOS) as torchjd solved them."""
    method, kind, weights = (
        case["method"],
        case["kind"],
        torch.tensor(case["weights"], dtype=torch.float64),
    )
    rows = jacobian(case["seed"], case["m"], case["params"], kind)
    params = {"pivots": 40} if method in ("upgrad", "dualproj") else {}
    direction, converged = ours(method, rows * scale, **params)
    factor = 1.0 if method == "nash-mtl" else scale
    expected = combine(rows, weights)
    assert converged
    if method == "cagrad":
        # CAGrad maximises the worst gain; an interior-point answer is a little short of it, or gives up (weights 0).
        gains = rows @ torch.stack([direction / factor, expected], -1)
        assert gains[:, 0].min() >= gains[:, 1].min() - 1e-6 * gains.abs().max()
        assert close(direction / factor, expected, 5e-4) or not weights.any()
    else:
        assert close(direction / factor, expected, 2e-2 if method == "nash-mtl" else 1e-6)


@pytest.mark.parametrize(("name", "count"), [("upgrad", 80), ("dualproj", 120)])
def test_dual_cone_projections(name: str, count: int) -> None:
    theirs = {"upgrad": reference.UPGradWeighting, "dualproj": reference.DualProjWeighting}[
        name
    ](projector=NonNegativeLeastSquares())
    for rows in matrices(count, 24):
        direction, converged = ours(name, rows, pivots=40)
        assert converged
        assert close(direction, combine(rows, theirs(gramian(rows))), 1e-6), rows.shape


@pytest.mark.parametrize("scale", ["min", "median", "rmse"])
def test_aligned_mtl(scale: str) -> None:
    theirs = reference.AlignedMTL(scale_mode=scale)
    for rows in matrices(200):
        assert close(ours("aligned-mtl", rows, scale=scale)[0], theirs(rows))


def test_imtl_g_where_the_gramian_is_regular() -> None:
    for rows in matrices(200, 20, ("full", "aligned", "uneven", "flat")):
        if rows.shape[1] < 2 * rows.shape[0]:
            continue
        direction, converged = ours("imtl-g", rows)
        assert converged
        assert close(direction, reference.IMTLG()(rows))


def test_config() -> None:
    for rows in matrices(200, 20):
        if rows.shape[1] < 2 * rows.shape[0]:
            continue
        assert close(ours("config", rows)[0], reference.ConFIG()(rows), 1e-4)


@pytest.mark.parametrize("a", [0.5, 1.0, 2.0])
def test_fairgrad(a: float) -> None:
    for seed in range(12):
        rows = jacobian(seed, 2 + seed % 5, 40)
        direction, converged = ours("fairgrad", rows, a=a, ridge=0.0)
        assert converged
        assert close(direction, reference.FairGrad(alpha=a)(rows), 1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_pcgrad_and_gradvac_with_two_tasks_have_no_order(kind: str) -> None:
    for seed in range(20):
        rows = jacobian(seed, 2, 5, kind)
        if not rows.norm(dim=1).all():
            continue
        inputs = Inputs(gramian=gramian(rows), noise=torch.rand(2, 2))
        pcgrad, _ = make_aggregator("pcgrad", reduction="sum").weights(inputs, {})
        assert close(combine(rows, pcgrad.weights), reference.PCGrad()(rows))
        vac, theirs = make_aggregator("gradvac", reduction="sum"), reference.GradVac(beta=0.5)
        state = vac.init(2)
        for step in range(4):
            rows = rows + 0.3 * jacobian(100 + step, 2, 5)
            out, state = vac.weights(
                Inputs(gramian=gramian(rows), noise=torch.rand(2, 2)), state
            )
            assert close(combine(rows, out.weights), theirs(rows), 1e-5)


def test_sdmgrad() -> None:
    theirs, mine = reference.SDMGradWeighting(lr=0.5), make_aggregator("sdmgrad", lr=0.5)
    state = mine.init(6)
    for seed in range(30):
        cross = jacobian(seed, 6, 20) @ (jacobian(seed, 6, 20) + jacobian(seed + 99, 6, 20)).T
        out, state = mine.weights(Inputs(cross_gramian=cross), state)
        torch.testing.assert_close(out.weights, theirs(cross), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("warmup", [0, 3])
def test_excess_mtl(warmup: int) -> None:
    theirs, mine = (
        reference.ExcessMTLWeighting(0.1, warmup),
        make_aggregator("excess-mtl", lr=0.1, warmup=warmup),
    )
    state = mine.init(4, num_params=9)
    for seed in range(8):
        rows = jacobian(seed, 4, 9, "full", torch.float32)
        out, state = mine.weights(Inputs(jacobian=rows), state)
        torch.testing.assert_close(out.weights, theirs(rows), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("leak", [0.0, 0.3])
def test_graddrop(leak: float) -> None:
    for seed in range(20):
        rows = jacobian(seed, 5, 30)
        torch.manual_seed(seed)
        theirs = reference.GradDrop(leak=torch.full((5,), leak, dtype=torch.float64))(rows)
        torch.manual_seed(seed)
        noise = torch.rand(30, dtype=torch.float64)
        out, _ = make_aggregator("graddrop", leak=leak).direction(
            Inputs(jacobian=rows, noise=noise), {}
        )
        torch.testing.assert_close(out.direction, theirs)


def slope(scalarizer: scalarization.Scalarizer, losses: Tensor) -> Tensor:
    losses = losses.clone().requires_grad_()
    scalarizer(losses).backward()
    return losses.grad


def test_loss_rules_are_the_gradients_of_torchjds_scalarizations() -> None:
    losses = torch.tensor([0.3, 2.0, 5.0, 0.7], dtype=torch.float64)
    pairs = [
        ("uncertainty", {}, scalarization.UW(4)),
        ("imtl-l", {}, scalarization.IMTLL(4)),
        ("smooth-tchebycheff", {"mu": 0.5}, scalarization.STCH(mu=0.5)),
        ("gls", {}, scalarization.GeometricMean()),
    ]
    for name, params, theirs in pairs:
        aggregator = make_aggregator(name, **params)
        state = aggregator.init(4)
        for step in range(3):
            values = losses * (1 + step)
            out, state = aggregator.weights(Inputs(losses=values), state)
            torch.testing.assert_close(
                out.weights, slope(theirs.double(), values), rtol=1e-6, atol=1e-9
            )
            for parameter in theirs.parameters():
                with torch.no_grad():
                    parameter -= 1e-3 * parameter.grad
                    parameter.grad = None


def test_dwa() -> None:
    theirs, mine = scalarization.DWA(2.0), make_aggregator("dwa", period=3)
    state = mine.init(3)
    generator = torch.Generator().manual_seed(0)
    for step in range(12):
        losses = torch.rand(3, generator=generator, dtype=torch.float64) + 0.1
        out, state = mine.weights(Inputs(losses=losses), state)
        torch.testing.assert_close(out.weights, slope(theirs, losses), rtol=1e-6, atol=1e-9)
        if step % 3 == 2:
            theirs.step()


def test_famo_with_the_next_losses_standing_in_for_the_evaluation_after_the_step() -> None:
    theirs, mine = scalarization.FAMO(4).double(), make_aggregator("famo")
    state = mine.init(4)
    generator = torch.Generator().manual_seed(0)
    for step in range(10):
        losses = torch.rand(4, generator=generator, dtype=torch.float64) + 0.5
        if step:
            theirs.update(losses)
        out, state = mine.weights(Inputs(losses=losses), state)
        torch.testing.assert_close(out.weights, slope(theirs, losses), rtol=1e-5, atol=1e-7)


def test_ema_is_cr_mogm() -> None:
    from mtrl.agents.aggregators import wrap

    theirs = reference.CRMOGMWeighting(reference.MGDAWeighting(1e-12, 3000), alpha=0.9)
    mine = wrap(make_aggregator("mgda"), ema=0.9)
    state = mine.init(3)
    for seed in range(6):
        rows = jacobian(seed, 3, 12)
        out, state = mine.weights(Inputs(gramian=gramian(rows)), state)
        torch.testing.assert_close(out.weights, theirs(gramian(rows)), rtol=0, atol=5e-3)
