"""Iterations that end early on a CPU give what a fixed number of them gives, as elsewhere."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mtrl.agents.aggregators import Inputs, gramian, linalg, make_aggregator
from tests.agents.aggregators.cases import KINDS, batch_of

NAMES = ("mgda", "upgrad", "dualproj", "cagrad", "fairgrad", "nash-mtl")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_stopping_early_changes_no_weights(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    aggregator = make_aggregator(name)
    inputs = Inputs(gramian=gramian(batch_of(0, 4, 6, 40, kind)))
    early, _ = aggregator.weights(inputs, {})
    calls = []

    def never(done: Tensor) -> bool:
        calls.append(done)
        return False

    for module in ("quadratic", "cagrad", "fairness", "base"):
        monkeypatch.setattr(f"mtrl.agents.aggregators.{module}.may_stop", never)
    whole, _ = aggregator.weights(inputs, {})
    assert calls
    assert torch.equal(early.converged, whole.converged)
    torch.testing.assert_close(early.weights, whole.weights, rtol=1e-6, atol=1e-9)


def test_only_values_on_the_cpu_are_looked_at() -> None:
    assert linalg.may_stop(torch.ones(3, dtype=torch.bool))
    assert not linalg.may_stop(torch.tensor([True, False]))
    assert not linalg.may_stop(torch.ones(3, dtype=torch.bool, device="meta"))
    assert linalg.some_left(torch.tensor([True, False]))
    assert not linalg.some_left(torch.zeros(3, dtype=torch.bool))
    assert not linalg.some_left(torch.ones(3, dtype=torch.bool, device="meta"))
