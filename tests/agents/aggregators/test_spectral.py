"""SVD reweighting: lengths in the main directions, whichever eigenvectors a solver returns."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtrl.agents.aggregators import Inputs, gramian, make_aggregator, parse_aggregator
from mtrl.agents.aggregators.linalg import jacobi_eigh
from mtrl.agents.aggregators.spectral import projected
from mtrl.agents.errors import AgentError
from tests.agents.aggregators.cases import jacobian

EPS = torch.finfo(torch.float64).eps


def weights_of(rows: Tensor, **params: object) -> Tensor:
    aggregator = make_aggregator("svd-reweight", **params)
    return aggregator.weights(Inputs(gramian=gramian(rows)), {})[0].weights


def test_lengths_in_two_main_directions_by_hand() -> None:
    """Rows 3 e1, 2 e2, e3 and e1 + e3: the main directions are of the plane of e1 and e3, then e2.

    That plane's Gramian is [[10, 1], [1, 2]], of eigenvalues 6 ± √17; e2's is 4, so two directions are the one of
    6 + √17 and e2.
    """
    rows = torch.tensor(
        [[3.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 1.0]],
        dtype=torch.float64,
    )
    main = torch.tensor([1.0, math.sqrt(17) - 4], dtype=torch.float64)
    main = main / main.norm()
    lengths = [3 * main[0], 2.0, main[1], main.sum()]
    expected = torch.tensor(lengths, dtype=torch.float64)
    found = weights_of(rows, rank=2, unit=False)
    torch.testing.assert_close(found, expected / expected.sum())
    # Half of four tasks are two directions, so that is the default.
    torch.testing.assert_close(weights_of(rows, unit=False), found)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), m=st.integers(2, 10), unit=st.booleans())
def test_weights_are_those_of_a_singular_value_decomposition(
    seed: int, m: int, unit: bool
) -> None:
    rows = jacobian(seed, m, 3 * m, "conflicting")
    seen = rows / rows.norm(dim=1, keepdim=True) if unit else rows
    rank = 1 + seed % m
    main = torch.linalg.svd(seen.T, full_matrices=False)[0][:, :rank]
    lengths = (seen @ main).norm(dim=1)
    found = weights_of(rows, rank=rank, unit=unit)
    torch.testing.assert_close(found, lengths / lengths.sum(), rtol=1e-6, atol=1e-9)


def test_equal_eigenvalues_count_by_the_share_that_fits() -> None:
    """Of three orthogonal gradients of one length none comes first, whatever basis the solver picks."""
    orthogonal = torch.eye(3, dtype=torch.float64)
    lengths = projected(orthogonal, 1, EPS)
    torch.testing.assert_close(lengths, torch.full((3,), 1 / 3, dtype=torch.float64))
    # A longer fourth takes the first place and the three share the second.
    longer = torch.diag(torch.tensor([1.0, 4.0, 1.0, 1.0], dtype=torch.float64))
    lengths = projected(longer, 2, EPS)
    expected = torch.tensor([1 / 3, 4.0, 1 / 3, 1 / 3], dtype=torch.float64)
    torch.testing.assert_close(lengths, expected)


def test_both_eigensolvers_give_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """They differ in sign and order of their vectors, and tasks that share nothing have equal eigenvalues."""
    rows = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 1e-3], [0, 0, 1e-3, 1.0]])
    found = [weights_of(rows.double(), rank=rank) for rank in (1, 2, 3, 4)]
    monkeypatch.setattr("mtrl.agents.aggregators.spectral.eigh", jacobi_eigh)
    for rank, expected in zip((1, 2, 3, 4), found, strict=True):
        torch.testing.assert_close(weights_of(rows.double(), rank=rank), expected)


def test_a_zero_gradient_has_no_weight_and_takes_no_direction() -> None:
    rows = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    expected = torch.tensor([0.0, 0.5, 0.5], dtype=torch.float64)
    torch.testing.assert_close(weights_of(rows, rank=2), expected)


def test_a_task_of_noise_among_tasks_with_something_in_common_counts_least() -> None:
    """Five tasks share a direction under noise; the sixth is noise of the same length.

    A unit gradient that shares nothing is a direction of its own with eigenvalue 1. It counts least as long as all
    directions that count are shared, with eigenvalues above 1.
    """
    aggregator = parse_aggregator("svd-reweight:rank=1,ema=0.99")
    state = aggregator.init(6)
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(2, 200, generator=generator)
    mixture = torch.rand(5, 2, generator=generator)
    for _ in range(100):
        rows = torch.randn(6, 200, generator=generator)
        rows[:5] += mixture @ common
        rows = rows / rows.norm(dim=1, keepdim=True)
        out, state = aggregator.weights(Inputs(gramian=gramian(rows)), state)
    assert int(out.weights.argmin()) == 5
    assert out.weights[5] < 0.7 * out.weights[:5].min()


def test_its_size_counts_only_where_asked() -> None:
    rows = jacobian(0, 4, 20)
    uneven = rows * torch.tensor([[10.0], [1.0], [0.1], [1.0]])
    torch.testing.assert_close(weights_of(rows), weights_of(uneven))
    assert weights_of(uneven, unit=False).argmax() == 0


def test_a_negative_rank_is_refused() -> None:
    with pytest.raises(AgentError, match="rank=-1 is not allowed; it must be at least 0"):
        make_aggregator("svd-reweight", rank=-1)
