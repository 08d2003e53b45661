"""Diagnostics on Gramians worked by hand."""

import pytest
import torch

from mtrl.agents.aggregators import gramian
from mtrl.agents.aggregators.diagnostics import (
    condition_number,
    conflict_rate,
    cosines,
    magnitude_similarity,
    task_gains,
)
from tests.agents.aggregators.cases import batch_of, jacobian

ROWS = torch.tensor([[2.0, 0.0], [-1.0, 0.0], [0.0, 3.0], [0.0, 0.0]])


def test_by_hand() -> None:
    products = gramian(ROWS)
    expected = torch.tensor(
        [[1.0, -1, 0, 0], [-1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    ).double()
    torch.testing.assert_close(cosines(products), expected)
    assert conflict_rate(products) == pytest.approx(1 / 6)
    pairs = [4 / 5, 12 / 13, 6 / 10, 0, 0, 0]
    assert magnitude_similarity(products) == pytest.approx(sum(pairs) / 6)
    assert condition_number(products) == torch.inf
    assert condition_number(gramian(ROWS[[0, 2]])) == pytest.approx(1.5)
    torch.testing.assert_close(
        task_gains(products, torch.tensor([1.0, 1.0, 1.0, 1.0])),
        torch.tensor([1.0, -1.0, 3.0, 0.0]).double(),
    )


def test_one_task_and_nothing_at_all() -> None:
    assert conflict_rate(torch.ones(1, 1)) == 0
    assert magnitude_similarity(torch.ones(1, 1)) == 1
    assert magnitude_similarity(torch.zeros(3, 3)) == 1
    assert torch.equal(cosines(torch.zeros(2, 2)), torch.zeros(2, 2).double())
    assert condition_number(torch.zeros(2, 2)) == torch.inf


def test_condition_number_is_that_of_the_jacobian_and_batches() -> None:
    rows = batch_of(0, 4, 5, 20)
    found = condition_number(gramian(rows))
    torch.testing.assert_close(found, torch.linalg.cond(rows), rtol=1e-6, atol=0)
    torch.testing.assert_close(found[2], condition_number(gramian(jacobian(2, 5, 20))))
    assert (
        conflict_rate(gramian(rows)).shape == magnitude_similarity(gramian(rows)).shape == (4,)
    )


def test_scale_does_not_matter() -> None:
    rows = jacobian(0, 4, 10)
    for scale in (1e-10, 1e15):
        scaled = gramian(rows * scale)
        torch.testing.assert_close(cosines(scaled), cosines(gramian(rows)))
        torch.testing.assert_close(
            magnitude_similarity(scaled), magnitude_similarity(gramian(rows))
        )
