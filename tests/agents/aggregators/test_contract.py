"""What every aggregator promises, whatever its rule."""

import dataclasses

import pytest
import torch

from mtrl.agents.agent import AgentError
from mtrl.agents.aggregators import (
    AGGREGATORS,
    Aggregator,
    Direction,
    Inputs,
    State,
    make_aggregator,
    parse_aggregator,
    positive_loss_free,
    wrap,
)
from tests.agents.aggregators.cases import KINDS, batch_of, inputs_for, item, jacobian

NAMES = sorted(AGGREGATORS)
# Their update is no function of the Jacobian alone, so a few promises are not theirs.
MOVED = [
    "mean:flat_minima=0.05",
    "gradvac:flat_minima=0.05",
    "upgrad:pivots=30,flat_minima=0.05",
]
# Small epochs, so that three updates reach every branch of the rules that count them.
SMALL = {
    "igb-v2": {"period": 1, "start": 1, "hidden": 8, "capacity": 4, "batch": 4},
    "ega": {"period": 1, "warmup": 0},
    "dwa": {"period": 1},
    "igb-v1": {"period": 1},
    "upgrad": {"pivots": 30},
    "dualproj": {"pivots": 30},
    # The published step size makes the descent jump from corner to corner, which no rounding survives.
    "sdmgrad": {"lr": 0.1},
}


def build(name: str) -> Aggregator:
    return make_aggregator(name, **SMALL[name]) if name in SMALL else parse_aggregator(name)


def run(
    aggregator: Aggregator, rows: torch.Tensor, updates: int = 3
) -> tuple[Direction, State]:
    state = aggregator.init(
        rows.shape[-2], num_params=rows.shape[-1], batch_shape=tuple(rows.shape[:-2])
    )
    for step in range(updates):
        out, state = aggregator.direction(inputs_for(aggregator, rows, seed=step), state)
    return out, state


@pytest.mark.parametrize("name", NAMES + MOVED)
def test_a_batch_equals_its_items(name: str) -> None:
    aggregator = build(name)
    rows = batch_of(0, 6, 4, 7, "conflicting").reshape(3, 2, 4, 7)
    state = aggregator.init(4, num_params=7, batch_shape=(3, 2))
    single = aggregator.init(4, num_params=7)
    for step in range(3):
        inputs = inputs_for(aggregator, rows, seed=step)
        out, state = aggregator.direction(inputs, state)
        alone, single = aggregator.direction(item(item(inputs, 2), 1), single)
    assert out.direction.shape == (3, 2, 7)
    assert out.residual.shape == out.converged.shape == out.finite.shape == (3, 2)
    torch.testing.assert_close(out.direction[2, 1], alone.direction, rtol=1e-6, atol=1e-9)
    for key, value in single.items():
        torch.testing.assert_close(state[key][2, 1], value, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", NAMES + MOVED)
def test_no_host_synchronisation(name: str) -> None:
    """Tensors without data raise at any look at their values, be it a branch, ``item`` or a copy to the host."""
    aggregator = build(name)
    rows = torch.zeros(2, 5, 7, device="meta")
    shape = aggregator.noise_shape(5, 7)
    zeros = torch.zeros(2, 5, device="meta")
    square = torch.zeros(2, 5, 5, device="meta")
    noise = None if shape is None else torch.zeros(2, *shape, device="meta")
    inputs = Inputs(square, zeros, zeros, rows, square, rows, noise)
    state = aggregator.init(5, num_params=7, batch_shape=(2,), device="meta")
    out, after = aggregator.direction(inputs, state)
    assert out.direction.shape == (2, 7)
    assert {k: (v.shape, v.dtype) for k, v in after.items()} == {
        k: (v.shape, v.dtype) for k, v in state.items()
    }


@pytest.mark.parametrize("name", NAMES + MOVED)
@pytest.mark.parametrize("kind", KINDS)
def test_finite_input_gives_finite_output(name: str, kind: str) -> None:
    aggregator = build(name)
    for m, params in ((1, 3), (5, 3), (10, 40)):
        for scale in (1e-10, 1.0, 1e15):
            out, state = run(aggregator, jacobian(1, m, params, kind) * scale)
            assert out.finite
            assert torch.isfinite(out.direction).all(), (m, scale)
            assert torch.isfinite(out.residual), (m, scale)
            assert not any(v.isnan().any() for v in state.values()), (m, scale)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_low_precision_input(name: str, dtype: torch.dtype) -> None:
    """Rounded rows give what the same rows give in float64, to the accuracy the rows' Gramian has."""
    aggregator = build(name)
    rows = jacobian(3, 6, 300, "conflicting").to(dtype)
    out, _ = run(aggregator, rows)
    assert out.direction.dtype == torch.float32
    wide, _ = run(aggregator, rows.double())
    assert out.converged
    error = (out.direction - wide.direction).norm() / wide.direction.norm()
    assert error < (2e-2 if dtype == torch.bfloat16 else 1e-4)


@pytest.mark.parametrize(
    "name", sorted(n for n in NAMES if "gramian" in AGGREGATORS[n]().info.needs)
)
def test_bf16_gramian(name: str) -> None:
    """A Gramian rounded to bf16 is no longer positive semi-definite; the update stays finite and near the true one."""
    aggregator = build(name)
    rows = jacobian(3, 6, 300, "aligned")
    inputs = inputs_for(aggregator, rows)
    rough = dataclasses.replace(
        inputs, gramian=inputs.gramian.bfloat16(), losses=inputs.losses.bfloat16()
    )
    state = aggregator.init(6, num_params=300)
    exact, _ = aggregator.weights(inputs, state)
    out, _ = aggregator.weights(rough, state)
    assert torch.isfinite(out.weights).all()
    assert out.weights.dtype == torch.float32
    a, b = rows.T @ out.weights.double(), rows.T @ exact.weights
    assert torch.cosine_similarity(a, b, dim=0) > 0.5


@pytest.mark.parametrize("name", NAMES + MOVED)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_input_is_flagged_and_contained(name: str, bad: float) -> None:
    aggregator = build(name)
    rows = batch_of(0, 2, 4, 7)
    state = aggregator.init(4, num_params=7, batch_shape=(2,))
    _, state = aggregator.direction(inputs_for(aggregator, rows), state)
    inputs = inputs_for(aggregator, rows, seed=1)
    poison = {f: getattr(inputs, f).clone() for f in aggregator.info.needs | {"jacobian"}}
    for value in poison.values():
        value[0, 1] = bad
    poisoned = dataclasses.replace(inputs, **poison)
    good, good_state = aggregator.direction(inputs, state)
    out, after = aggregator.direction(poisoned, state)
    assert out.finite.tolist() == [False, True]
    assert not out.converged[0]
    assert not torch.isfinite(out.direction[0]).all()
    torch.testing.assert_close(out.direction[1], good.direction[1])
    for key in state:
        if aggregator.info.needs:
            torch.testing.assert_close(after[key][0], state[key][0])
        torch.testing.assert_close(after[key][1], good_state[key][1])


@pytest.mark.parametrize("name", NAMES + MOVED)
def test_inputs_and_state_are_not_changed(name: str) -> None:
    aggregator = build(name)
    inputs = inputs_for(aggregator, jacobian(0, 4, 7))
    state = aggregator.init(4, num_params=7)
    before = {
        k: v.clone() for k, v in (vars(inputs) | state).items() if isinstance(v, torch.Tensor)
    }
    first, _ = aggregator.direction(inputs, state)
    second, _ = aggregator.direction(inputs, state)
    assert torch.equal(first.direction, second.direction)
    for key, value in (vars(inputs) | state).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("name", NAMES)
def test_all_gradients_zero(name: str) -> None:
    out, _ = run(build(name), torch.zeros(3, 5, dtype=torch.float64))
    assert torch.equal(out.direction, torch.zeros(5, dtype=torch.float64))
    assert out.converged


@pytest.mark.parametrize(
    "name", sorted(n for n in NAMES if AGGREGATORS[n]().info.needs == {"gramian"})
)
def test_zero_gramian_gives_the_mean(name: str) -> None:
    out, _ = build(name).weights(Inputs(gramian=torch.zeros(4, 4)), {})
    torch.testing.assert_close(out.weights, torch.full((4,), 0.25))


@pytest.mark.parametrize("name", NAMES)
def test_one_task_is_not_turned(name: str) -> None:
    rows = jacobian(0, 1, 7)
    out, _ = run(build(name), rows)
    assert (
        torch.cosine_similarity(out.direction, rows[0], dim=0) == pytest.approx(1.0)
        # Both weigh every coordinate by itself.
        or name in ("graddrop", "sam-gs")
    )
    assert out.converged


@pytest.mark.parametrize("name", NAMES + MOVED)
def test_wrong_shapes_and_missing_inputs(name: str) -> None:
    aggregator = build(name)
    inputs = inputs_for(aggregator, jacobian(0, 4, 7))
    state = aggregator.init(4, num_params=7)
    needs = aggregator.info.needs - {"noise"}
    for field in needs:
        missing = dataclasses.replace(
            inputs, **({"jacobian": None, "gramian": None} | {field: None})
        )
        with pytest.raises(AgentError, match=r"which was not given|needs the jacobian"):
            aggregator.direction(missing, state)
        with pytest.raises(AgentError, match=field):
            aggregator.direction(
                dataclasses.replace(inputs, **{field: getattr(inputs, field)[..., :0]}), state
            )
    if "noise" in aggregator.info.needs:
        with pytest.raises(AgentError, match="noise: shape"):
            aggregator.direction(dataclasses.replace(inputs, noise=torch.rand(3)), state)
    with pytest.raises(AgentError, match="num_tasks=0"):
        aggregator.init(0, num_params=7)


def test_losses_and_gramian_must_agree_on_the_tasks() -> None:
    with pytest.raises(AgentError, match=r"losses: shape \(3,\) does not go with 4 tasks"):
        make_aggregator("gradnorm").weights(
            Inputs(gramian=torch.eye(4), losses=torch.ones(3)), {}
        )
    with pytest.raises(AgentError, match=r"gramian: shape \(4, 5\)"):
        make_aggregator("mgda").weights(Inputs(gramian=torch.ones(4, 5)), {})


def test_state_must_fit_the_inputs() -> None:
    famo = make_aggregator("famo")
    with pytest.raises(AgentError, match="state 'logits': made for 4 tasks"):
        famo.weights(Inputs(losses=torch.ones(3)), famo.init(4))
    with pytest.raises(AgentError, match="state 'logits': made for"):
        famo.weights(Inputs(losses=torch.ones(2, 4)), famo.init(4))
    with pytest.raises(AgentError, match="state 'logits': missing"):
        famo.weights(Inputs(losses=torch.ones(4)), {})


def test_direction_only_methods_refuse_weights() -> None:
    for name in ("graddrop", "sam-gs", "moco", "db-mtl"):
        with pytest.raises(AgentError, match="call direction"):
            make_aggregator(name).weights(Inputs(jacobian=torch.ones(2, 3)), {})


def test_gradient_memory_needs_the_number_of_parameters() -> None:
    with pytest.raises(AgentError, match="num_params"):
        make_aggregator("moco").init(3)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("pcgradd", {}, "did you mean 'pcgrad'"),
        ("zzzz", {}, "use one of aligned-mtl"),
        ("cagrad", {"cc": 1.0}, "did you mean 'c'"),
        ("mgda", {"c": 1.0}, "it has none"),
        ("cagrad", {"c": -1.0}, "c=-1.0 is not allowed; it must be at least 0"),
        ("cagrad", {"c": "half"}, "c='half' is not allowed; it must be a finite number"),
        ("cagrad", {"c": True}, "it must be a finite number"),
        ("cagrad", {"c": float("nan")}, "it must be a finite number"),
        ("cagrad", {"rescale": "1/c"}, "rescale='1/c' is not allowed; it must be one of none"),
        ("ega", {"period": 2.5}, "it must be a whole number"),
        ("db-mtl", {"log_losses": 1}, "it must be true or false"),
    ],
)
def test_bad_parameters(name: str, params: dict[str, object], message: str) -> None:
    with pytest.raises(AgentError, match=message.replace("(", r"\(")):
        make_aggregator(name, **params)


def test_positive_loss_rules_are_declared_and_flag_what_they_cannot_do() -> None:
    risky = {
        "ega",
        "gradnorm",
        "uncertainty",
        "imtl-l",
        "dwa",
        "gls",
        "igb-v1",
        "igb-v2",
        "lbtw",
        "famo",
        "db-mtl",
    }
    assert set(NAMES) - set(positive_loss_free()) == risky
    assert not make_aggregator("db-mtl", log_losses=False).info.needs_positive_loss
    for name in risky:
        aggregator = build(name)
        rows = jacobian(0, 3, 5)
        inputs = inputs_for(aggregator, rows)
        state = aggregator.init(3, num_params=5)
        negative = dataclasses.replace(
            inputs, losses=inputs.losses * torch.tensor([1.0, -1.0, 1.0])
        )
        good, after = aggregator.direction(inputs, state)
        out, after = aggregator.direction(negative, after)
        assert good.converged
        assert not out.converged, name
        assert torch.isfinite(out.direction).all()
        assert not any(v.isnan().any() for v in after.values())
        assert (
            wrap(aggregator, every=2).info.needs_positive_loss
            if not aggregator.info.direction_only
            else True
        )


@pytest.mark.parametrize("name", NAMES + MOVED)
def test_state_survives_a_copy(name: str) -> None:
    """A run continued from copied state equals the uninterrupted one bit for bit."""
    aggregator = build(name)
    rows = jacobian(0, 4, 7, dtype=torch.float32)
    state = aggregator.init(4, num_params=7)
    for step in range(3):
        _, state = aggregator.direction(inputs_for(aggregator, rows, seed=step), state)
    copy = {k: torch.tensor(v.tolist(), dtype=v.dtype) for k, v in state.items()}
    for step in range(3, 5):
        a, state = aggregator.direction(inputs_for(aggregator, rows, seed=step), state)
        b, copy = aggregator.direction(inputs_for(aggregator, rows, seed=step), copy)
        assert torch.equal(a.direction, b.direction)
