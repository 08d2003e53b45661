"""PopArt's statistics against moments worked by hand and in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtrl.agents.ppo.popart import PopArt, popart_state, popart_std, popart_update
from tests.helpers.networks import mlp

CRITIC = mlp(in_dim=2, width=3, depth=1, out_dim=1, num_heads=1)


def after(batches: list[Tensor], step: float) -> PopArt:
    """The statistics of one task after updates with targets ``[n]``."""
    popart = popart_state(1, 1, torch.device("cpu"))
    params = torch.zeros(1, CRITIC.num_parameters)
    for batch in batches:
        popart_update(popart, params, CRITIC, batch.view(1, 1, -1), step)
    return popart


def test_moments_by_hand() -> None:
    """First batch: mean 2, variance 1. Second: mean 6, variance 4, with a share of 1/2.

    The mixture has mean 4 and variance ½ · 1 + ½ · 4 + ½ · ½ · (6 − 2)² = 6.5.
    """
    popart = after([torch.tensor([1.0, 3.0]), torch.tensor([4.0, 8.0])], step=0.5)
    assert popart["mean"].item() == pytest.approx(4.0)
    assert popart["variance"].item() == pytest.approx(6.5)
    assert popart_std(popart).item() == pytest.approx(6.5**0.5)
    # Targets that do not vary have a deviation of 0.01 all the same.
    assert popart_std(after([torch.ones(2)], step=0.5)).item() == pytest.approx(0.01)


@given(
    seed=st.integers(0, 1000),
    mean=st.sampled_from([0.0, 10.0, 999.0, -990.0, 3e4]),
    spread=st.sampled_from([0.1, 0.2, 1.0, 50.0]),
    step=st.sampled_from([0.0, 0.3]),
)
@settings(max_examples=40, deadline=None)
def test_the_deviation_is_right_however_small_beside_the_mean(
    seed: int, mean: float, spread: float, step: float
) -> None:
    """At returns of 999 ± 0.2 a float32 second moment is off by a factor between 0.05 and 2.2."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(20, 200, generator=generator)
    batches = (noise * spread + mean).unbind(0)
    # The same mixture of moments in float64.
    first, second = 0.0, 0.0
    for number, batch in enumerate(batches, start=1):
        wide = batch.double()
        share = max(1 / number, step)
        first += share * (float(wide.mean()) - first)
        second += share * (float(wide.square().mean()) - second)
    expected = (second - first**2) ** 0.5
    found = popart_std(after(list(batches), step)).item()
    assert found == pytest.approx(expected, rel=0.02)
