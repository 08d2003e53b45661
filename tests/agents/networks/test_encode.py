"""The encoder on a CPU against the operations of a GPU, and rows that repeat against every row on its own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtrl.agents.aggregators import parse_aggregator
from mtrl.agents.errors import AgentError
from mtrl.agents.networks import seen as seen_module
from mtrl.agents.networks.encode import encode_few
from mtrl.agents.networks.grid import GridEncoder, GridLayout
from mtrl.agents.networks.memory import Recall
from mtrl.agents.networks.network import Network
from mtrl.agents.networks.parameters import Params
from mtrl.agents.networks.seen import BLOCK, Seen, distinct, look
from mtrl.agents.networks.spread import Spread, SpreadHeads
from mtrl.agents.optim.task_gradients import Reduction
from tests.helpers.networks import grid

LAYOUT = GridLayout(11, 6, 3, 4, 5, 34)
TASKS, ROWS = 3, 128  # enough rows to look for repeated ones


def _network(extra: int = 0, activation: str = "tanh", heads: int = TASKS) -> Network:
    return grid(8, 2, 2, heads, activation, LAYOUT, 4, extra)  # type: ignore[arg-type]


def _encoder(network: Network) -> GridEncoder:
    encoder = network.encoder
    assert isinstance(encoder, GridEncoder)
    return encoder


def _obs(seeds: int = 1, rows: int = ROWS, different: int = 20) -> Tensor:
    """Observations of which every task repeats ``different``; the first task's missions are empty."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.rand(different, LAYOUT.num_bytes, generator=generator)
    pool = (draw * torch.tensor(LAYOUT.sizes())).to(torch.uint8)
    x = pool[torch.randint(different, (seeds, TASKS, rows), generator=generator)]
    x[:, 0, :, 148:] = 0
    return x


def _gradients(
    network: Network, x: Tensor, members: int, per_task: bool, on_gpu: bool
) -> tuple[Tensor, list[Tensor]]:
    flat = network.init(members, torch.Generator().manual_seed(1))
    params = network.layout.leaves(flat, torch.float32)
    params = network.layout.per_task(params, TASKS) if per_task else params
    views, encoder = params.of("encoder"), _encoder(network)
    features = (
        encoder.looked_up(views, x)
        if on_gpu
        else encoder.indexed(views, look(x, tuple(LAYOUT)))
    )
    slope = torch.randn(features.shape, generator=torch.Generator().manual_seed(2))
    return features, list(torch.autograd.grad(features, list(views.values()), slope))


@pytest.mark.parametrize("per_task", [False, True])
@pytest.mark.parametrize(("seeds", "members"), [(1, 1), (1, 2), (2, 4)])
def test_kernels_equal_operations_of_a_gpu(seeds: int, members: int, per_task: bool) -> None:
    network = _network(extra=2)
    x = _obs(seeds, rows=6)
    x = torch.cat([x, torch.ones(*x.shape[:3], 2, dtype=torch.uint8)], -1)
    (ours, own), (theirs, expected) = (
        _gradients(network, x, members, per_task, gpu) for gpu in (False, True)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    for grad, wanted in zip(own, expected, strict=True):
        torch.testing.assert_close(grad, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "aggregator", ["mean", "uncertainty", "upgrad", "mean:flat_minima=0.1"]
)
@pytest.mark.parametrize("activation", ["tanh", "layer_norm"])
def test_repeated_rows_change_no_gradient(
    aggregator: str, activation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, x = _network(activation=activation), _obs()
    flat = network.init(1, torch.Generator().manual_seed(1))
    reduction = Reduction(network, parse_aggregator(aggregator), TASKS)
    state = reduction.init(1, flat.device)
    target = torch.randn(1, TASKS, ROWS, 2, generator=torch.Generator().manual_seed(3))
    found = []
    for few in (1, 10**6):
        monkeypatch.setattr(seen_module, "FEW", few)
        seen = network.look(x)
        assert isinstance(seen, Seen) and (seen.inverse is None) == (few > 1)
        leaves = reduction.leaves(flat, torch.float32)

        def losses_at(params: Params, seen: Seen = seen) -> torch.Tensor:
            return (network.forward(params, seen) - target).square().mean((-2, -1))

        losses = losses_at(leaves)
        found.append(
            (losses, reduction.gradient(losses, leaves, state, None, again=losses_at)[0])
        )
    for once, each in zip(*found, strict=True):
        torch.testing.assert_close(once, each, rtol=1e-4, atol=1e-5)


def test_repeated_rows_keep_their_own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    network = grid(8, 2, 2, TASKS, "tanh", LAYOUT, 4, memory=True)
    views, x = (
        network.views(network.init(1, torch.Generator().manual_seed(1)), torch.float32),
        _obs(),
    )
    goes_on = Recall(torch.randn(1, TASKS, 4, 8), torch.rand(1, TASKS, ROWS) < 0.1)
    monkeypatch.setattr(seen_module, "FEW", 1)
    once = network.forward(views, x, goes_on)
    monkeypatch.setattr(seen_module, "FEW", 10**6)
    torch.testing.assert_close(once, network.forward(views, x, goes_on), rtol=1e-4, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=90))
def test_distinct_rows_in_order_of_appearance(values: list[tuple[int, ...]]) -> None:
    rows = torch.tensor(values, dtype=torch.uint8)
    first, inverse = distinct(rows)
    expected = list(dict.fromkeys(values))
    assert [tuple(row) for row in rows[first].tolist()] == expected
    assert torch.equal(rows[first][inverse], rows)


@pytest.mark.parametrize("seeds", [1, 2])
def test_taking_rows_is_looking_at_them_alone(seeds: int) -> None:
    x = _obs(seeds, different=90)
    generator = torch.Generator().manual_seed(4)
    index = torch.randint(ROWS, (seeds, TASKS, 100), generator=generator)
    taken = look(x, tuple(LAYOUT)).take(index)
    alone = look(
        x.gather(2, index.unsqueeze(-1).expand(-1, -1, -1, x.shape[-1])), tuple(LAYOUT)
    )
    for name in ("rows", "ids", "patches", "inverse"):
        ours, theirs = getattr(taken, name), getattr(alone, name)
        assert theirs is None if ours is None else torch.equal(ours, theirs), name
    assert torch.equal(taken.missions[taken.spoken], alone.missions[alone.spoken])
    assert (taken.inverse is None) == (seeds > 1) and (
        seeds > 1 or taken.rows.shape[2] % BLOCK == 0
    )


@pytest.mark.parametrize("heads", [1, TASKS])
@pytest.mark.parametrize("members", [1, 2])
def test_heads_of_rows_that_repeat_equal_heads_of_every_row(members: int, heads: int) -> None:
    network, generator = _network(heads=heads), torch.Generator().manual_seed(5)
    rows = torch.randn(members, 11, 8, generator=generator, requires_grad=True)
    inverse = torch.randint(11, (TASKS, 30), generator=generator)
    leaves = {
        "weight": torch.randn(members, heads, 2, 8, generator=generator),
        "bias": torch.randn(members, heads, 2, generator=generator),
    }
    wanted = [rows, *(leaf.requires_grad_() for leaf in leaves.values())]
    slope = torch.randn(members, TASKS, 30, 2, generator=generator)
    ours = SpreadHeads.apply(rows, inverse, *leaves.values())
    repeated = Spread.apply(rows, inverse.flatten()).unflatten(1, inverse.shape)
    every = network.heads.outputs(leaves, repeated, None)
    torch.testing.assert_close(ours, every)
    for own, expected in zip(
        *(torch.autograd.grad(out, wanted, slope) for out in (ours, every)), strict=True
    ):
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)


def test_features_in_bfloat16_are_those_in_float32_rounded() -> None:
    network = _network()
    flat, x = network.init(1, torch.Generator().manual_seed(1)).bfloat16(), _obs(rows=6)
    exact, rounded = (
        _encoder(network).indexed(network.views(flat, d).of("encoder"), look(x, tuple(LAYOUT)))
        for d in (torch.float32, flat.dtype)
    )
    assert torch.equal(exact.bfloat16(), rounded)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [LAYOUT, LAYOUT._replace(words=0, vocabulary=1)])
@pytest.mark.parametrize(("seeds", "members"), [(1, 1), (1, 2), (2, 4)])
def test_few_rows_get_the_features_of_many(
    seeds: int, members: int, layout: GridLayout, dtype: torch.dtype
) -> None:
    network = grid(8, 2, 2, TASKS, "tanh", layout, 4, 2)
    flat = network.init(members, torch.Generator().manual_seed(1))
    # Biases too.
    flat += torch.randn(flat.shape, generator=torch.Generator().manual_seed(2)) / 10
    x = torch.cat(
        [
            _obs(seeds, rows=6)[..., : layout.num_bytes],
            torch.ones(seeds, TASKS, 6, 2, dtype=torch.uint8),
        ],
        -1,
    )
    views = network.constants(flat, dtype)
    few = encode_few(x, tuple(layout), views.tables, dtype)
    plain = network.views(flat, dtype).of("encoder")
    assert torch.equal(few, _encoder(network).indexed(plain, look(x, tuple(layout))))
    with torch.no_grad():
        acting, looking = (
            network.forward(constants, x) for constants in (views, network.views(flat, dtype))
        )
    assert torch.equal(acting, looking)


def test_spread_adds_up_gradients() -> None:
    rows = torch.randn(2, 3, 4, requires_grad=True)
    inverse = torch.tensor([2, 0, 2, 2])
    slope = torch.randn(2, 4, 4)
    out = Spread.apply(rows, inverse)
    assert torch.equal(out, rows[:, inverse])
    (grad,) = torch.autograd.grad(out, rows, slope)
    torch.testing.assert_close(grad, torch.zeros(2, 3, 4).index_add(1, inverse, slope))


@pytest.mark.parametrize("byte", [0, 1, 2, 147, 150])
def test_bytes_without_a_category_are_refused(byte: int) -> None:
    x = _obs(rows=2)
    x[0, 1, 1, byte] = LAYOUT.sizes()[byte]
    with pytest.raises(AgentError, match="a byte is not below the number of its categories"):
        look(x, tuple(LAYOUT))
    network = _network()
    views = network.constants(network.init(1, torch.Generator().manual_seed(1)), torch.float32)
    with pytest.raises(AgentError, match="a byte is not below the number of its categories"):
        encode_few(x, tuple(LAYOUT), views.tables, torch.float32)
