"""CAMRL's mode indicator."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtrl.agents.curricula.camrl.indicator import indicator, moments, observe, standardized

Z = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20)


@settings(deadline=None)
@given(Z, st.integers(0, 100_000))
def test_each_term_and_the_whole_lie_in_the_unit_interval(z: list[float], number: int) -> None:
    found = indicator(torch.tensor(z, dtype=torch.float64), number, 1000.0, 1 / 40, 2.0)
    assert all(0 <= term <= 1 for term in found) and 0 <= found.value <= 1


@settings(deadline=None)
@given(Z, st.integers(0, 20_000), st.integers(1, 1_000))
def test_falls_with_rounds(z: list[float], number: int, later: int) -> None:
    values = torch.tensor(z, dtype=torch.float64)
    first, second = (
        indicator(values, n, 1000.0, 1 / 40, 2.0).value for n in (number, number + later)
    )
    assert second < first


def test_by_hand() -> None:
    found = indicator(
        torch.tensor([-3.0, 3.0, 0.0, 4.0], dtype=torch.float64), 500, 1000.0, 0.025, 2.0
    )
    assert found.extremes == 0.75
    assert found.youth == pytest.approx(math.exp(-0.5))
    assert found.performance == pytest.approx(math.exp(-0.025))


@settings(deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=3, max_size=30), st.floats(-100, 100))
def test_standardized_by_the_history(values: list[float], latest: float) -> None:
    state = moments(1)
    for value in values:
        state = observe(state, torch.tensor([value], dtype=torch.float64))
    history = torch.tensor(values, dtype=torch.float64)
    z = standardized(state, torch.tensor([latest], dtype=torch.float64)).item()
    if history.std() < 1e-6:
        return
    assert z == pytest.approx(
        float((latest - history.mean()) / history.std()), rel=1e-5, abs=1e-5
    )


def test_no_history_and_no_spread_are_zero() -> None:
    state = moments(2)
    assert standardized(state, torch.ones(2, dtype=torch.float64)).tolist() == [0, 0]
    for _ in range(4):
        state = observe(state, torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert standardized(state, torch.tensor([5.0, 2.0], dtype=torch.float64)).tolist() == [0, 0]


def test_two_rounds_are_a_history_by_hand() -> None:
    """Of 1 and 3 the mean is 2 and the deviation √2."""
    state = moments(1)
    for value in (1.0, 3.0):
        state = observe(state, torch.tensor([value], dtype=torch.float64))
    found = standardized(state, torch.tensor([5.0], dtype=torch.float64)).item()
    assert found == pytest.approx(3 / 2**0.5)
