"""A loss weighting in front of a gradient method."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mtrl.agents.aggregators import (
    AGGREGATORS,
    Inputs,
    combine,
    gramian,
    make_aggregator,
    parse_aggregator,
    wrap,
)
from mtrl.agents.aggregators.weighting import loss_weightings
from mtrl.agents.errors import AgentError
from tests.agents.aggregators.cases import batch_of, inputs_for, jacobian

WEIGHTINGS = loss_weightings()


def test_the_weightings_are_the_rules_without_gradients() -> None:
    assert set(WEIGHTINGS) == {
        *("uncertainty", "imtl-l", "dwa", "gls", "smooth-tchebycheff", "igb-v1", "igb-v2"),
        *("lbtw", "success-focal", "famo", "random", "dtp"),
    }


def test_pcgrad_of_weighted_gradients_by_hand() -> None:
    """Log losses of (1, 2) weigh the rows by 1 and ½: (−4, 1, 1) and (3, ½, ½), whose product is −11.

    The first becomes (−4, 1, 1) + 11/9.5 (3, ½, ½), the second (3, ½, ½) + 11/18 (−4, 1, 1); their mean is the update.
    """
    rows = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]], dtype=torch.float64)
    aggregator = parse_aggregator("pcgrad:weighting=igb-v1")
    noise = torch.rand(aggregator.noise_shape(2), dtype=torch.float64)
    inputs = Inputs(
        gramian=gramian(rows), losses=torch.tensor([1.0, 2.0]).double(), noise=noise
    )
    out, _ = aggregator.weights(inputs, aggregator.init(2))
    first = torch.tensor([-4 + 33 / 9.5, 1 + 5.5 / 9.5, 1 + 5.5 / 9.5])
    second = torch.tensor([3 - 44 / 18, 0.5 + 11 / 18, 0.5 + 11 / 18])
    expected = ((first + second) / 2).double()
    torch.testing.assert_close(combine(rows, out.weights), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_behind_plain_averaging_or_summing_a_weighting_is_what_it_is_alone(name: str) -> None:
    alone = make_aggregator(name)
    base = "sum" if alone.info.sums else "mean"
    composed = parse_aggregator(f"{base}:weighting={name}")
    state = alone.init(4)
    other = composed.init(4)
    for step in range(3):
        inputs = inputs_for(alone, jacobian(step, 4, 9), seed=step)
        expected, state = alone.weights(inputs, state)
        out, other = composed.weights(inputs, other)
        torch.testing.assert_close(out.weights, expected.weights)


@pytest.mark.parametrize(
    "base", ["mgda", "cagrad", "fairgrad:a=2", "upgrad", "aligned-mtl", "config"]
)
def test_the_route_of_the_gramian_equals_that_of_the_jacobian(base: str) -> None:
    aggregator = wrap(parse_aggregator(base), weighting="uncertainty")
    rows = jacobian(1, 4, 20, "conflicting")
    state = aggregator.init(4, num_params=20)
    state["weighting.s"] = torch.tensor([0.3, -1.0, 2.0, 0.0], dtype=torch.float64)
    inputs = inputs_for(aggregator, rows)
    by_gramian, _ = aggregator.weights(inputs, state)
    factors = 0.5 * torch.exp(-state["weighting.s"])
    weighted = rows * factors.unsqueeze(-1)
    plain, _ = parse_aggregator(base).weights(Inputs(gramian=gramian(weighted)), {})
    expected = combine(weighted, plain.weights)
    torch.testing.assert_close(
        combine(rows, by_gramian.weights), expected, rtol=1e-6, atol=1e-9
    )


def test_a_method_that_gives_directions_sees_weighted_rows() -> None:
    rows = torch.tensor([[1.0, 3.0, 2.0], [-3.0, 1.0, -2.0]], dtype=torch.float64)
    aggregator = parse_aggregator("graddrop:weighting=igb-v1")
    noise = torch.tensor([0.2, 0.9, 0.4], dtype=torch.float64)
    losses = torch.tensor([2.0, 0.5], dtype=torch.float64)
    state = aggregator.init(2, num_params=3)
    out, _ = aggregator.direction(Inputs(jacobian=rows, losses=losses, noise=noise), state)
    weighted = rows / losses.unsqueeze(-1)
    expected, _ = make_aggregator("graddrop").direction(
        Inputs(jacobian=weighted, noise=noise), {}
    )
    torch.testing.assert_close(out.direction, expected.direction)


SCALE_FREE = {"nash-mtl", "fairgrad"}


@pytest.mark.parametrize("base", sorted(set(AGGREGATORS) - SCALE_FREE))
def test_every_method_takes_a_weighting(base: str) -> None:
    rows = batch_of(0, 2, 3, 8, "conflicting")
    plain = make_aggregator(base)
    composed = parse_aggregator(f"{base}:weighting=igb-v1")
    found = []
    for aggregator in (plain, composed):
        state = aggregator.init(3, num_params=8, batch_shape=(2,))
        for step in range(2):
            inputs = inputs_for(aggregator, rows, seed=step)
            inputs = dataclasses.replace(inputs, losses=torch.tensor([[0.2, 1.0, 5.0]] * 2))
            out, state = aggregator.direction(inputs, state)
        assert out.finite.all()
        assert torch.isfinite(out.direction).all()
        found.append(out.direction)
    assert not torch.allclose(found[0], found[1])


@pytest.mark.parametrize("base", sorted(SCALE_FREE))
def test_a_weighting_that_would_change_nothing_is_refused(base: str) -> None:
    rows = jacobian(0, 3, 8, "conflicting")
    uneven = rows * torch.tensor([[3.0], [0.1], [1.0]])
    found = []
    for each in (rows, uneven):
        out, _ = make_aggregator(base).weights(Inputs(gramian=gramian(each)), {})
        found.append(combine(each, out.weights))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)
    with pytest.raises(AgentError, match=f"'uncertainty' would change nothing before '{base}'"):
        parse_aggregator(f"{base}:weighting=uncertainty")


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_every_weighting_goes_before_pcgrad_with_wrappers(name: str) -> None:
    aggregator = parse_aggregator(f"pcgrad:weighting={name},subset=2,every=2,rescale=mean-norm")
    assert aggregator.info.name == f"{name}(every(rescale(subset(pcgrad))))"
    rows = batch_of(0, 2, 4, 8, "conflicting")
    state = aggregator.init(4, batch_shape=(2,))
    for step in range(3):
        out, state = aggregator.weights(inputs_for(aggregator, rows, seed=step), state)
    assert out.weights.shape == (2, 4)
    assert torch.isfinite(out.weights).all()


@pytest.mark.parametrize("name", ["mean", "cagrad", "ega"])
def test_other_methods_are_no_weightings(name: str) -> None:
    with pytest.raises(AgentError, match=f"weighting: '{name}' is unknown; .*uncertainty"):
        parse_aggregator(f"pcgrad:weighting={name}")
