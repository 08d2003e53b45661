"""Wrappers: held weights, running averages, task subsets, ridge, length."""

from functools import partial

import pytest
import torch
from torch import Tensor

from mtrl.agents.aggregators import (
    Inputs,
    combine,
    gramian,
    make_aggregator,
    parse_aggregator,
    quadratic,
    wrap,
)
from mtrl.agents.aggregators.interior import nonneg_interior
from mtrl.agents.aggregators.wrappers import Ema, skips_solves
from mtrl.agents.errors import AgentError
from tests.agents.aggregators.cases import batch_of, inputs_for, jacobian


def grams(count: int, m: int = 4) -> list[Tensor]:
    return [gramian(jacobian(seed, m, 9, "conflicting")) for seed in range(count)]


def test_weights_every_k_updates() -> None:
    """Counting on the device and on the host give the same weights; in between they are the last ones."""
    plain = make_aggregator("nash-mtl")
    device, host = wrap(plain, every=3), wrap(plain, every=3)
    a, b = device.init(4), host.init(4)
    for step, matrix in enumerate(grams(8)):
        fresh, _ = plain.weights(Inputs(gramian=matrix), {})
        out, a = device.weights(Inputs(gramian=matrix), a)
        same, b = host.weights(Inputs(gramian=matrix, step=step), b)
        if step % 3 == 0:
            held = fresh.weights
        torch.testing.assert_close(out.weights, held)
        torch.testing.assert_close(same.weights, held)
        assert out.converged
        assert set(a) == set(b) == set(device.init(4))
        for key in a:
            torch.testing.assert_close(a[key], b[key])


def test_a_failed_solve_stays_reported_while_its_weights_are_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quadratic, "nonneg_interior", partial(nonneg_interior, steps=2))
    hard = gramian(jacobian(0, 20, 8))
    aggregator = wrap(make_aggregator("upgrad", reg=1e-9, pivots=1), every=2)
    state = aggregator.init(20)
    for step in range(2):
        out, state = aggregator.weights(Inputs(gramian=hard, step=step), state)
        assert not out.converged


def test_a_stateful_base_moves_only_when_it_is_asked() -> None:
    aggregator = wrap(make_aggregator("gradvac"), every=2)
    state = aggregator.init(4)
    targets = []
    for matrix in grams(4):
        _, state = aggregator.weights(Inputs(gramian=matrix, noise=torch.rand(4, 4)), state)
        targets.append(state["base.target"])
    assert torch.equal(targets[0], targets[1])
    assert not torch.equal(targets[1], targets[2])


def test_moving_average_starts_from_the_first_weights() -> None:
    plain, smooth = make_aggregator("mgda"), wrap(make_aggregator("mgda"), ema=0.75)
    state, expected = smooth.init(4), None
    for matrix in grams(5):
        fresh = plain.weights(Inputs(gramian=matrix), {})[0].weights
        expected = fresh if expected is None else 0.75 * expected + 0.25 * fresh
        out, state = smooth.weights(Inputs(gramian=matrix), state)
        torch.testing.assert_close(out.weights, expected)


def test_subset_solves_for_the_drawn_tasks() -> None:
    aggregator = wrap(make_aggregator("mgda"), subset=3)
    rows = jacobian(0, 6, 20)
    noise = torch.rand(6, generator=torch.Generator().manual_seed(0))
    chosen = noise.argsort()[:3]
    out, _ = aggregator.weights(Inputs(gramian=gramian(rows), noise=noise), {})
    part, _ = make_aggregator("mgda").weights(Inputs(gramian=gramian(rows[chosen])), {})
    torch.testing.assert_close(out.weights[chosen], part.weights)
    assert out.weights.count_nonzero() <= 3


@pytest.mark.parametrize(
    ("name", "total"),
    [("mean", 1.0), ("mgda", 1.0), ("imtl-g", 1.0), ("success-focal", 1.0), ("sum", 5.0)],
)
def test_subset_keeps_the_length_of_averages_and_of_sums(name: str, total: float) -> None:
    """Two of five tasks: an average stays an average, and the sum of five is 5/2 times the sum of two."""
    aggregator = wrap(parse_aggregator(name), subset=2)
    rows = jacobian(0, 5, 20)
    out, _ = aggregator.weights(inputs_for(aggregator, rows), {})
    assert float(out.weights.sum()) == pytest.approx(total)
    assert out.weights.count_nonzero() == 2


def test_subset_scales_the_sum_of_projections_and_not_their_mean() -> None:
    rows = jacobian(0, 5, 20, "conflicting")
    found = {}
    for reduction in ("mean", "sum"):
        aggregator = wrap(make_aggregator("pcgrad", reduction=reduction), subset=2)
        found[reduction] = aggregator.weights(inputs_for(aggregator, rows), {})[0].weights
    torch.testing.assert_close(found["sum"], 5 * found["mean"])


def test_subset_of_a_method_with_noise_and_in_a_batch() -> None:
    aggregator = wrap(make_aggregator("pcgrad"), subset=2)
    assert aggregator.noise_shape(5) == (2 * 2 + 5,)
    rows = batch_of(0, 3, 5, 8)
    inputs = inputs_for(aggregator, rows)
    out, _ = aggregator.weights(inputs, {})
    assert out.weights.shape == (3, 5)
    # The base's noise comes first, the draw's last.
    chosen = inputs.noise[:, -5:].argsort(-1)[:, :2]
    drawn = torch.zeros(3, 5, dtype=torch.bool).scatter(-1, chosen, True)
    assert torch.equal(out.weights != 0, drawn)
    everything = wrap(make_aggregator("mgda"), subset=9)
    out, _ = everything.weights(Inputs(gramian=gramian(rows), noise=torch.rand(3, 5)), {})
    torch.testing.assert_close(
        out.weights,
        make_aggregator("mgda").weights(Inputs(gramian=gramian(rows)), {})[0].weights,
    )


def test_shares_of_the_drawn_tasks_sum_to_one_by_hand() -> None:
    """Of the shares (½, ¼, ¼) the first two are drawn, (⅔, ⅓); both aligned gradients get the shorter one's length."""
    inputs = Inputs(
        gramian=torch.diag(torch.tensor([4.0, 1.0, 9.0]).double()),
        preferences=torch.tensor([0.5, 0.25, 0.25]).double(),
        noise=torch.tensor([0.1, 0.2, 0.9]).double(),
    )
    out, _ = wrap(make_aggregator("aligned-mtl"), subset=2).weights(inputs, {})
    torch.testing.assert_close(out.weights, torch.tensor([1 / 3, 1 / 3, 0]).double())


def test_whether_solves_are_skipped_is_seen_through_wrappers() -> None:
    skipping = wrap(make_aggregator("mgda"), ema=0.5, every=2)
    assert skips_solves(skipping)
    assert skips_solves(Ema(skipping, 0.5))
    assert not skips_solves(wrap(make_aggregator("mgda"), ema=0.5))


def test_ridge_is_in_units_of_the_mean_squared_norm() -> None:
    matrix = grams(1)[0]
    out, _ = wrap(make_aggregator("fairgrad"), ridge=0.1).weights(Inputs(gramian=matrix), {})
    by_hand = matrix + 0.1 * matrix.trace() / 4 * torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(
        out.weights, make_aggregator("fairgrad").weights(Inputs(gramian=by_hand), {})[0].weights
    )


@pytest.mark.parametrize(
    ("policy", "length"),
    [("mean-norm", None), ("unit-norm", 1.0), ("max-norm", 1.0), ("simplex", None)],
)
def test_rescaling_sets_the_length_and_keeps_the_direction(
    policy: str, length: float | None
) -> None:
    rows = jacobian(0, 4, 9, "conflicting") * 10
    out, _ = wrap(make_aggregator("config"), rescale=policy).weights(
        Inputs(gramian=gramian(rows)), {}
    )
    plain, _ = make_aggregator("config").weights(Inputs(gramian=gramian(rows)), {})
    direction, before = combine(rows, out.weights), combine(rows, plain.weights)
    assert torch.cosine_similarity(direction, before, dim=0) == pytest.approx(1.0)
    if policy == "simplex":
        assert out.weights.abs().sum() == pytest.approx(1.0)
    else:
        assert direction.norm() == pytest.approx(length or float(rows.mean(0).norm()))
    small, _ = wrap(make_aggregator("config"), rescale="max-norm").weights(
        Inputs(gramian=gramian(rows * 1e-6)), {}
    )
    torch.testing.assert_close(small.weights, plain.weights)


def test_wrappers_compose_and_say_so() -> None:
    aggregator = wrap(
        make_aggregator("fairgrad"), ridge=1e-3, rescale="unit-norm", ema=0.9, every=2
    )
    assert aggregator.info.name == "every(ema(rescale(ridge(fairgrad))))"
    rows = batch_of(0, 2, 4, 9)
    state = aggregator.init(4, batch_shape=(2,))
    for step in range(3):
        out, state = aggregator.weights(inputs_for(aggregator, rows, step), state)
    assert out.weights.shape == (2, 4)
    assert all(
        key.startswith("base.") or key in {"weights", "residual", "converged", "count"}
        for key in state
    )
    assert wrap(make_aggregator("mgda")) == make_aggregator("mgda")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("graddrop", {"every": 2}, "gives directions"),
        ("gradvac", {"subset": 2}, "keeps a state per task"),
        ("dwa", {"ridge": 0.1}, "does not use the Gramian"),
        ("mgda", {"every": 0}, "k=0 is not allowed"),
        ("mgda", {"ema": 1.0}, "beta=1.0 is not allowed"),
        ("mgda", {"subset": -1}, "n=-1 is not allowed"),
        ("mgda", {"rescale": "big"}, "policy='big' is not allowed"),
        ("sdmgrad", {"flat_minima": 0.1}, "four half batches"),
    ],
)
def test_impossible_wrappings(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(AgentError, match=message):
        wrap(make_aggregator(name), **options)
