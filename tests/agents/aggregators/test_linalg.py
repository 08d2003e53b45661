"""The linear algebra and the quadratic programs under the methods."""

import pytest
import torch

from mtrl.agents.aggregators import quadratic
from mtrl.agents.aggregators.linalg import (
    correlation,
    eigh,
    jacobi_eigh,
    or_one,
    pinv_apply,
    ratio,
    ridge_floor,
    spd_solve,
)
from mtrl.agents.aggregators.quadratic import dual_cone, nonneg_qp
from tests.agents.aggregators.cases import KINDS, batch_of, jacobian


@pytest.mark.parametrize("m", [1, 2, 3, 5, 10, 11, 50])
def test_jacobi_agrees_with_lapack(m: int) -> None:
    """The eigensolver used where LAPACK is not: values, and vectors that diagonalise."""
    rows = batch_of(0, 3, m, m + 1, "conflicting")
    matrix = rows @ rows.mT
    values, vectors = jacobi_eigh(matrix)
    expected, _ = eigh(matrix)
    torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        vectors @ torch.diag_embed(values) @ vectors.mT, matrix, rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(
        vectors.mT @ vectors, torch.eye(m, dtype=matrix.dtype).expand_as(matrix)
    )


def test_jacobi_of_equal_eigenvalues_and_of_zero() -> None:
    for matrix in (
        torch.eye(6, dtype=torch.float64),
        torch.zeros(6, 6, dtype=torch.float64),
        -torch.eye(6).double(),
    ):
        values, vectors = jacobi_eigh(matrix)
        torch.testing.assert_close(vectors @ torch.diag_embed(values) @ vectors.mT, matrix)


def test_pseudo_inverse_of_a_singular_matrix() -> None:
    rows = jacobian(0, 6, 3)
    matrix, vector = rows @ rows.T, jacobian(1, 1, 6)[0]
    found, keep = pinv_apply(matrix, vector, 1e-12)
    assert int(keep.sum()) == 3
    torch.testing.assert_close(
        found, torch.linalg.pinv(matrix, rtol=1e-10) @ vector, rtol=1e-8, atol=1e-10
    )


def test_breakdown_of_cholesky_is_visible() -> None:
    matrix = torch.stack([torch.eye(2), torch.tensor([[1.0, 2.0], [2.0, 1.0]])]).double()
    out = spd_solve(matrix, torch.ones(2, 2, 1, dtype=torch.float64))
    assert torch.isfinite(out[0]).all()
    assert out[1].isnan().all()


def test_correlation_marks_zero_rows() -> None:
    cosine, norms, active = correlation(
        torch.tensor([[4.0, 0.0, -6.0], [0.0, 0.0, 0.0], [-6.0, 0.0, 9.0]])
    )
    assert active.tolist() == [True, False, True]
    assert norms.tolist() == [2.0, 1.0, 3.0]
    assert cosine.tolist() == [[1.0, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 1.0]]


def test_correlations_are_within_one_and_one_with_themselves() -> None:
    """Rounded products can exceed the norms', and 2 / √2 / √2 is a little less than 1."""
    rounded = torch.tensor([[2.0, 3.0], [3.0, 2.0]], dtype=torch.float64)
    assert correlation(rounded)[0].tolist() == [[1, 1], [1, 1]]


def test_quotients_and_ridges_by_hand() -> None:
    values, divisors = torch.tensor([3.0, 3.0, 3.0]), torch.tensor([2.0, 0.0, -1.0])
    assert or_one(divisors).tolist() == [2, 1, 1]
    assert ratio(values, divisors).tolist() == [1.5, 0, 0]
    assert ridge_floor(4, 1e-7) == 2e-7
    assert ridge_floor(4, 1e-16) == 1e-10


def test_no_weights_are_no_point_of_the_hull(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = torch.zeros(1, 2, dtype=torch.float64), torch.zeros(1)
    monkeypatch.setattr(quadratic, "nonneg_qp", lambda *arguments: nothing)
    problem = correlation(torch.eye(2, dtype=torch.float64))
    assert quadratic.min_norm_point(*problem, 1e-10)[1] == torch.inf


def test_a_slope_that_still_descends_is_a_residual() -> None:
    """At x = 0 of ``½x² − 2x`` the slope is −2."""
    zero = torch.zeros(1, 1, dtype=torch.float64)
    assert quadratic._residual(torch.eye(1).double(), zero - 2, zero).tolist() == [2]


def test_quadratic_program_by_hand() -> None:
    """min ½x² − x₁ + 2x₂ over x ≥ 0 with a unit matrix: x = (1, 0)."""
    x, residual = nonneg_qp(
        torch.eye(2, dtype=torch.float64), torch.tensor([[-1.0, 2.0], [0.0, 0.0]]).double()
    )
    torch.testing.assert_close(x, torch.tensor([[1.0, 0.0], [0.0, 0.0]]).double())
    assert residual.max() < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_quadratic_program_kkt(kind: str) -> None:
    rows = batch_of(5, 20, 10, 25, kind)
    matrix = rows @ rows.mT
    cosine, _, _ = correlation(matrix)
    cosine = cosine + 1e-4 * torch.eye(10, dtype=torch.float64)
    linear = batch_of(50, 20, 7, 10)
    x, residual = nonneg_qp(cosine, linear, pivots=40)
    slope = x @ cosine + linear
    scale = linear.abs().amax(-1, keepdim=True)
    assert x.min() >= 0
    assert (slope / scale).min() > -1e-8
    assert (x * slope / scale**2).abs().max() < 1e-7
    assert residual.max() < 1e-8


def test_one_right_hand_side_does_not_disturb_another() -> None:
    rows = jacobian(0, 8, 30, "conflicting")
    vectors = torch.eye(8, dtype=torch.float64)
    together, _ = dual_cone(rows @ rows.T, vectors, 1e-4)
    for i in range(8):
        alone, _ = dual_cone(rows @ rows.T, vectors[i : i + 1], 1e-4)
        torch.testing.assert_close(together[i], alone[0])
