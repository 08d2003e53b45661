"""Frank–Wolfe on the scaled simplex: feasible, decreasing, and within its bounds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtrl.agents.curricula.camrl.frank_wolfe import frank_wolfe, linear_minimizer

SIZES = st.integers(1, 8)
SEEDS = st.integers(0, 10_000)


def _quadratic(seed: int, size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return root @ root.T, 3 * torch.randn(size, generator=generator, dtype=torch.float64)


def _value(x: Tensor, matrix: Tensor, vector: Tensor) -> Tensor:
    return 0.5 * x @ matrix @ x - vector @ x


def _start(seed: int, size: int, radius: float) -> Tensor:
    point = torch.rand(
        size, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64
    )
    return radius * point / point.sum()


@settings(deadline=None, max_examples=60)
@given(SEEDS, SIZES, st.floats(0.1, 5), st.integers(0, 30))
def test_every_iterate_is_feasible(seed: int, size: int, radius: float, steps: int) -> None:
    matrix, vector = _quadratic(seed, size)
    x, gap = frank_wolfe(
        lambda p: _value(p, matrix, vector), _start(seed, size, radius), steps, radius
    )
    assert (x >= -1e-12).all() and x.sum() <= radius * (1 + 1e-12)
    assert gap >= -1e-9


@settings(deadline=None, max_examples=40)
@given(SEEDS, SIZES, st.floats(0.1, 5))
def test_convex_functions_meet_the_bound_and_the_gap_bounds_the_error(
    seed: int, size: int, radius: float
) -> None:
    matrix, vector = _quadratic(seed, size)

    def objective(p: Tensor) -> Tensor:
        return _value(p, matrix, vector)

    start = _start(seed, size, radius)
    best, last_gap = frank_wolfe(objective, start, 400, radius)
    least = objective(best) - last_gap  # no feasible point is lower
    # Largest eigenvalue times squared diameter.
    curvature = float(torch.linalg.eigvalsh(matrix)[-1]) * 2 * radius**2
    for steps in (1, 3, 10, 30):
        x, gap = frank_wolfe(objective, start, steps, radius)
        error = float(objective(x) - least)
        assert error <= 2 * curvature / (steps + 2) + 1e-9 + float(last_gap)
        assert float(objective(x) - objective(best)) <= float(gap) + 1e-9


def test_decreases_a_convex_function_more_the_longer_it_runs() -> None:
    for seed in range(20):
        matrix, vector = _quadratic(seed, 6)
        vertices = torch.eye(6, dtype=torch.float64)
        values = (
            0.5 * torch.einsum("vi,ij,vj->v", vertices, matrix, vertices) - vertices @ vector
        )
        order = values.argsort()
        # Far from the least value, and not a maximum.
        start = 0.5 * (vertices[order[-1]] + vertices[order[-2]])
        seen = [float(_value(frank_wolfe(lambda p, m=matrix, v=vector: _value(p, m, v), start, n)[0], matrix, vector))
                for n in (0, 10, 1000)]  # fmt: skip
        assert seen[1] < seen[0] and seen[2] <= seen[1] + 1e-9


def test_ten_steps_by_hand() -> None:
    """Minimize ``½ (x − ¼)²`` on [0, 1]: the vertices are 1 and 0, the steps 1, 2/3, 1/2."""

    def objective(p: Tensor) -> Tensor:
        return 0.5 * (p - 0.25).square().sum()

    start = torch.zeros(1, dtype=torch.float64)
    seen = [float(frank_wolfe(objective, start, steps)[0]) for steps in range(4)]
    assert seen == pytest.approx([0.0, 1.0, 1 - 2 / 3, (1 / 3) / 2])
    assert abs(float(frank_wolfe(objective, start, 10)[0]) - 0.25) < 0.1


def test_the_minimizer_is_the_origin_where_nothing_descends() -> None:
    assert linear_minimizer(torch.tensor([1.0, -2.0, -3.0]), 0.5).tolist() == [0, 0, 0.5]
    assert linear_minimizer(torch.tensor([1.0, 0.0, 2.0]), 0.5).tolist() == [0, 0, 0]
