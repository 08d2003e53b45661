"""The row loss of CAMRL: ranks that are true and carry gradient, terms by hand."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtrl.agents.curricula.camrl.loss import Shape, Situation, row_terms, soft_rank, true_rank


def _f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@settings(deadline=None, max_examples=60)
@given(st.permutations(range(8)), st.integers(2, 8))
def test_soft_ranks_approach_true_ranks_as_the_sharpness_grows(
    order: list[int], size: int
) -> None:
    values = torch.tensor(order[:size], dtype=torch.float64) / 10
    errors = [
        float((soft_rank(values, d) - true_rank(values)).abs().max())
        for d in (3.0, 30.0, 300.0, 3000.0)
    ]
    assert errors[-1] < 1e-9
    assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(errors))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 0.05), min_size=2, max_size=8))
def test_soft_ranks_of_close_entries_carry_gradient(entries: list[float]) -> None:
    values = torch.tensor(entries, dtype=torch.float64, requires_grad=True)
    wanted = torch.arange(1, len(entries) + 1, dtype=torch.float64)
    (slope,) = torch.autograd.grad(soft_rank(values, 200.0) @ wanted, [values])
    assert torch.isfinite(slope).all() and slope.abs().max() > 0


def test_gradient_of_soft_ranks_is_that_of_the_formula() -> None:
    values = _f64(0.30, 0.31, 0.2, 0.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: soft_rank(v, 50.0), [values])


def test_raising_an_entry_improves_its_rank() -> None:
    values = _f64(0.30, 0.305, 0.2).requires_grad_()
    (slope,) = torch.autograd.grad(soft_rank(values, 200.0)[0], [values])
    assert slope[0] < 0 < slope[1]


def test_true_ranks_share_ties() -> None:
    assert true_rank(_f64(0.5, 1.0, 0.5, 0.0)).tolist() == [2.5, 1.0, 2.5, 4.0]


def _situation(**changes: Tensor) -> Situation:
    eye = torch.eye(3, dtype=torch.float64)
    base = {
        "transfer": eye,
        "trained": torch.tensor([False, False, True]),
        "loss": _f64(0.2, 0.6, 1.0),
        "products": torch.tensor(
            [[2.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 1.0]], dtype=torch.float64
        ),
        "similarity": -torch.tensor(
            [[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]], dtype=torch.float64
        ),
        "prior": torch.tensor([], dtype=torch.int64),
    }
    return Situation(**base | changes)


def test_terms_by_hand() -> None:
    row = _f64(0.5, 0.3, 0.1)
    terms = row_terms(row, 0, _situation(), Shape(sharpness=1e4))
    assert terms[0].item() == pytest.approx(
        (1 + 0.2 * 0.4) * 0.2 - 0.2 * (0.5 * 0.2 + 0.3 * 0.6 + 0.1 * 1.0)
    )
    # Task 1 is the only other one to come; task 2, trained, gives it B_21 = 0: ‖w_1 − 0.3 w_0‖² = 3 − 0.6 + 0.09·2.
    assert terms[1].item() == pytest.approx(3 - 2 * 0.3 * 1 + 0.09 * 2)
    assert terms[2].item() == 0
    # Among the others the row ranks task 1 first; by loss task 2 is first, by similarity task 1 is.
    assert terms[3].item() == pytest.approx(2.0) and terms[4].item() == pytest.approx(0.0)


def test_trained_tasks_explain_their_part() -> None:
    transfer = torch.eye(3, dtype=torch.float64)
    transfer[2, 1] = 0.4
    terms = row_terms(_f64(0.5, 0.3, 0.1), 0, _situation(transfer=transfer), Shape())
    w = torch.linalg.cholesky(_situation().products)
    assert terms[1].item() == pytest.approx(
        float((w[1] - 0.4 * w[2] - 0.3 * w[0]).square().sum())
    )


def test_the_prior_is_a_ranking_of_the_tasks_it_names() -> None:
    row = _f64(0.5, 0.1, 0.3)
    agree, disagree = torch.tensor([0, 2, 1]), torch.tensor([1, 2])
    assert row_terms(row, 0, _situation(prior=agree), Shape(sharpness=1e4))[
        2
    ].item() == pytest.approx(0.0, abs=1e-9)
    assert row_terms(row, 0, _situation(prior=disagree), Shape(sharpness=1e4))[
        2
    ].item() == pytest.approx(2.0)


def test_every_term_is_differentiable() -> None:
    row = _f64(0.305, 0.3, 0.295).requires_grad_()
    at = _situation(prior=torch.tensor([1, 0]))
    assert torch.autograd.gradcheck(lambda b: row_terms(b, 0, at, Shape(sharpness=20.0)), [row])
