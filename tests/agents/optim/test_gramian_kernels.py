"""The compiled products of bfloat16 rows, against float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mtrl.agents.aggregators import parse_aggregator
from mtrl.agents.optim import pieces
from mtrl.agents.optim.gramian_kernels import COLUMNS, add_products, weigh_rows
from mtrl.agents.optim.task_gradients import Reduction
from tests.helpers.networks import mlp

SEEDS, TWINS = 2, 2


def _rows(groups: int, columns: int) -> Tensor:
    generator = torch.Generator().manual_seed(groups + columns)
    return torch.randn(SEEDS, TWINS, groups, columns, generator=generator).bfloat16()


def _bits(rows: Tensor) -> np.ndarray:
    bits: np.ndarray = rows.view(torch.uint16).numpy()
    return bits


@pytest.mark.parametrize("tasks", [1, 2, 3, 5, 7, 10, 24])
@pytest.mark.parametrize("columns", [1, COLUMNS, 2 * COLUMNS + 3])
def test_products_of_rows_and_of_alternating_rows(tasks: int, columns: int) -> None:
    for halves in (False, True):
        rows = _rows(tasks * (2 if halves else 1), columns)
        wide = rows.double()
        left, right = (wide[:, :, ::2], wide[:, :, 1::2]) if halves else (wide, wide)
        out = np.ones((SEEDS, tasks, tasks))
        add_products(_bits(rows), halves, out)
        torch.testing.assert_close(
            torch.from_numpy(out), 1 + (left @ right.mT).sum(1), rtol=1e-5, atol=1e-4
        )


@pytest.mark.parametrize("groups", [1, 4, 5, 20])
@pytest.mark.parametrize("columns", [1, COLUMNS, 2 * COLUMNS + 3])
def test_weighted_sums_of_rows(groups: int, columns: int) -> None:
    rows, weights = (
        _rows(groups, columns),
        torch.rand(SEEDS, groups, generator=torch.Generator().manual_seed(0)),
    )
    out = torch.full((SEEDS, TWINS, columns), torch.nan)
    weigh_rows(_bits(rows), weights.numpy(), out.numpy())
    expected = torch.einsum("sg,swgn->swn", weights.double(), rows.double()).float()
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_value_that_is_not_finite_spoils_its_own_task_and_seed(value: float) -> None:
    rows = _rows(3, 40)
    rows[0, 1, 2, 17] = value
    out = np.zeros((SEEDS, 3, 3))
    add_products(_bits(rows), False, out)
    finite = np.isfinite(out)
    assert (
        finite[1].all()
        and finite[0, :2, :2].all()
        and not finite[0, 2].any()
        and not finite[0, :, 2].any()
    )


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("aggregator", ["upgrad", "sdmgrad", "moco", "graddrop"])
def test_gradients_do_not_depend_on_who_multiplies(
    aggregator: str, heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = mlp(in_dim=4, width=8, depth=2, out_dim=2, num_heads=heads)
    generator = torch.Generator().manual_seed(3)
    flat, x = (
        network.init(SEEDS * TWINS, generator),
        torch.randn(SEEDS, 3, 6, 4, generator=generator),
    )
    reduction = Reduction(network, parse_aggregator(aggregator), 3, TWINS)
    shape = reduction.noise_shape()
    noise = None if shape is None else torch.rand(SEEDS, *shape, generator=generator)

    def gradient() -> Tensor:
        leaves = reduction.leaves(flat, torch.bfloat16)
        losses = network.forward(leaves, x).square().mean((-2, -1)).view(SEEDS, TWINS, 3).sum(1)
        state = reduction.init(SEEDS, torch.device("cpu"))
        return reduction.gradient(
            losses, leaves, state, noise, None, 0, again=lambda at: losses
        )[0]

    compiled = gradient()
    monkeypatch.setattr(pieces, "MOST_ROWS", 0)
    torch.testing.assert_close(compiled, gradient(), rtol=1e-4, atol=1e-6)
