"""Gramians and weighted sums of task gradients."""

import torch

from mtrl.agents.aggregators import combine, gramian
from tests.agents.aggregators.cases import batch_of, jacobian


def test_gramian_accumulates_in_float32() -> None:
    rows = torch.full((2, 4096), 1.0 + 1 / 128, dtype=torch.bfloat16)
    out = gramian(rows)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, torch.full((2, 2), 4096 * (1 + 1 / 128) ** 2))
    assert gramian(rows.double()).dtype == torch.float64
    assert gramian(batch_of(0, 6, 3, 5).reshape(2, 3, 3, 5)).shape == (2, 3, 3, 3)


def test_combine() -> None:
    rows = jacobian(0, 3, 5)
    torch.testing.assert_close(
        combine(rows, torch.tensor([1.0, 0.0, -2.0])), rows[0] - 2 * rows[2]
    )
    assert combine(rows.bfloat16(), torch.ones(3)).dtype == torch.float32
