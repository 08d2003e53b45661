"""The reward helpers against the stock functions, float32 included."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metaworld.utils import reward_utils

from mtrl.envs.metaworld.native import rewards

unit = st.floats(0.0, 1.0)
unit32 = st.floats(0.0, 1.0, width=32)
real = st.floats(-2.0, 2.0)


@settings(deadline=None)
@given(a=unit, b=unit32)
def test_hamacher_with_a_float32_factor_is_computed_in_float32(a: float, b: float) -> None:
    stock = reward_utils.hamacher_product(a, np.float32(b))
    assert isinstance(stock, np.float32) or stock == 0
    assert rewards.hamacher32(a, b, True) == float(stock)


@settings(deadline=None)
@given(a=unit, b=unit)
def test_hamacher_of_doubles_equals_stock(a: float, b: float) -> None:
    assert rewards.hamacher(a, b) == reward_utils.hamacher_product(a, b)


@pytest.mark.parametrize(("a", "b"), [(1.1, 0.5), (0.5, -0.1), (math.nan, 0.5)])
def test_hamacher_is_nan_where_stock_raises(a: float, b: float) -> None:
    with pytest.raises(ValueError, match="must range between"):
        reward_utils.hamacher_product(a, b)
    assert math.isnan(rewards.hamacher(a, b))


@settings(deadline=None)
@given(
    effort=st.floats(-2, 2, width=32) | st.just(math.nan),
    desired=st.sampled_from([0.1, 0.7, 0.8, 1.0]),
)
def test_gripper_closed_equals_the_stock_expression_in_value_and_type(
    effort: float, desired: float
) -> None:
    stock = min(max(0, np.float32(effort)), desired) / desired
    assert rewards.gripper_closed(effort, desired) == (
        float(stock),
        isinstance(stock, np.float32),
    )


@settings(deadline=None)
@given(x=real, low=real, width=unit, margin=unit)
def test_tolerance_equals_stock(x: float, low: float, width: float, margin: float) -> None:
    for ours, sigmoid in (
        (rewards.tolerance, "long_tail"),
        (rewards.tolerance_gaussian, "gaussian"),
    ):
        with np.errstate(over="ignore"):
            stock = reward_utils.tolerance(
                x, bounds=(low, low + width), margin=margin, sigmoid=sigmoid
            )
        assert ours(x, low, low + width, margin) == pytest.approx(stock, rel=1e-14, abs=1e-300)


def test_tolerance_is_nan_for_the_negative_margin_that_stock_refuses() -> None:
    assert math.isnan(rewards.tolerance(1.0, 0.0, 0.5, -0.1))
    assert math.isnan(rewards.tolerance_gaussian(1.0, 0.0, 0.5, -0.1))
