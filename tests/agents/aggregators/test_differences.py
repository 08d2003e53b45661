"""Every method is a method of its own: at its default settings none is plain averaging, and no two are the same.

The tasks conflict, their gradients differ in length, their losses fall at different rates and they succeed unequally,
for longer than any warm-up. A method that follows none of this does nothing that its name promises.
"""

from __future__ import annotations

import functools
import itertools

import pytest
import torch
from torch import Tensor

from mtrl.agents.aggregators import AGGREGATORS, Inputs, gramian, make_aggregator
from tests.agents.aggregators.cases import jacobian

TASKS, PARAMS = 5, 12
PARALLEL = {
    frozenset({"mean", "sum"}): "the sum is m times the mean",
    frozenset(
        {"imtl-g", "config"}
    ): "both have equal projections on all unit gradients; they differ in length",
    frozenset(
        {"nash-mtl", "fairgrad"}
    ): "proportional fairness is the Nash solution; Nash-MTL clips its length",
}
"""Pairs of methods whose directions are the same by their papers, each with the reason."""


@functools.cache
def directions(name: str) -> Tensor:
    """The last directions of a run that outlasts the warm-up, ``[n, P]``, each of length 1."""
    aggregator = make_aggregator(name)
    generator = torch.Generator().manual_seed(0)
    rows = jacobian(4, TASKS, PARAMS, "conflicting")
    rows = rows * torch.tensor([[0.5], [1.0], [2.0], [1.0], [3.0]], dtype=torch.float64)
    success = torch.linspace(0, 1, TASKS, dtype=torch.float64)
    falls = torch.tensor([1.0, 0.9995, 0.999, 0.998, 0.99], dtype=torch.float64)
    state = aggregator.init(TASKS, num_params=PARAMS)
    shape = aggregator.noise_shape(TASKS, PARAMS)
    # Learned scales of losses move slowly from where all are equal.
    count = max(aggregator.info.warmup + 8, 100)
    found = []
    for step in range(count):
        noisy = rows + 0.05 * torch.randn(rows.shape, generator=generator, dtype=torch.float64)
        half = rows + 0.05 * torch.randn(rows.shape, generator=generator, dtype=torch.float64)
        noise = torch.rand(shape or (1,), generator=generator, dtype=torch.float64)
        inputs = Inputs(
            gramian=gramian(noisy),
            losses=2 * falls**step,
            success=success,
            jacobian=noisy,
            cross_gramian=noisy @ half.mT,
            noise=None if shape is None else noise,
            step=step,
        )
        out, state = aggregator.direction(inputs, state)
        assert out.finite, name
        found.append(out.direction / out.direction.norm())
    return torch.stack(found[-4:])


def parallel(first: str, second: str) -> bool:
    cosines = (directions(first) * directions(second)).sum(1)
    return bool((cosines > 1 - 1e-6).all())


@pytest.mark.parametrize("name", sorted(set(AGGREGATORS) - {"mean", "sum"}))
def test_no_method_is_plain_averaging(name: str) -> None:
    assert not parallel(name, "mean")


def test_no_two_methods_are_the_same() -> None:
    pairs = itertools.combinations(sorted(AGGREGATORS), 2)
    same = {frozenset(pair) for pair in pairs if parallel(*pair)}
    assert same == set(PARALLEL)


def test_methods_of_one_direction_differ_in_length() -> None:
    rows = jacobian(4, TASKS, PARAMS, "conflicting") * 3
    for pair in PARALLEL:
        lengths = []
        for name in pair:
            out, _ = make_aggregator(name).direction(
                Inputs(jacobian=rows, losses=rows[:, 0]), {}
            )
            lengths.append(float(out.direction.norm()))
        assert lengths[0] != pytest.approx(lengths[1], rel=0.01), pair
