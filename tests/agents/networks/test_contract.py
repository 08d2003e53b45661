"""What every network keeps to, whatever its body: one test for each sentence of the contract."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

import mtrl.agents
from mtrl.agents.aggregators import parse_aggregator
from mtrl.agents.members import task_code
from mtrl.agents.networks.encoder import Encoder, Identity
from mtrl.agents.networks.grid import MINIGRID, GridEncoder
from mtrl.agents.networks.layers import Activation
from mtrl.agents.networks.memory import Recall
from mtrl.agents.networks.network import Network
from mtrl.agents.networks.parameters import Params
from mtrl.agents.networks.registry import NETWORKS
from mtrl.agents.optim.task_gradients import Reduction
from tests.helpers.networks import network

TASKS, SEEDS, ROWS, WIDTH = 3, 2, 6, 8
NAMES = list(NETWORKS)
PLACES = ["numbers", "layer_norm", "grid", "gru", "shared head"]
Batch = tuple[Tensor, Recall | None]


def _network(name: str, place: str) -> Network:
    encoder: Encoder = Identity(4)
    if place in ("grid", "gru"):
        encoder = GridEncoder(MINIGRID.num_bytes, MINIGRID, 4)
    activation: Activation = "layer_norm" if place == "layer_norm" else "tanh"
    heads = 1 if place == "shared head" else TASKS
    body = NETWORKS.make(name)
    return network(encoder, WIDTH, 2, 2, heads, activation, body, place == "gru", TASKS)


def _flat(made: Network, members: int) -> Tensor:
    """Parameters away from where they start, since some start at zero."""
    generator = torch.Generator().manual_seed(1)
    flat = made.init(members, generator)
    return flat + 0.1 * torch.randn(flat.shape, generator=generator)


def _batch(place: str, rows: int = ROWS) -> Batch:
    generator = torch.Generator().manual_seed(2)
    if place not in ("grid", "gru"):
        return torch.randn(SEEDS, TASKS, rows, 4, generator=generator), None
    draw = torch.rand(SEEDS, TASKS, rows, MINIGRID.num_bytes, generator=generator)
    x = (draw * torch.tensor(MINIGRID.sizes())).to(torch.uint8)
    if place == "grid":
        return x, None
    start = torch.rand(SEEDS, TASKS, rows, generator=generator) < 0.3
    return x, Recall(torch.randn(SEEDS, TASKS, rows // 3, WIDTH, generator=generator), start)


def _losses(made: Network, params: Params, batch: Batch) -> Tensor:
    x, recall = batch
    shape = made.noise_shape(x.shape[:3])
    noise = (
        None if shape is None else torch.rand(shape, generator=torch.Generator().manual_seed(4))
    )
    return made.forward(params, x, recall, noise).square().mean((-2, -1))


def _alone(made: Network, flat: Tensor, batch: Batch, task: int) -> Tensor:
    """Gradient ``[K, P]`` of one task's loss by plain autograd."""
    leaf = flat.clone().requires_grad_()
    loss = _losses(made, made.views(leaf, torch.float32), batch)[:, task].sum()
    (grad,) = torch.autograd.grad(loss, leaf)
    return grad


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("aggregator", ["upgrad", "sdmgrad"])
def test_each_tasks_gradient_is_that_of_the_task_alone(
    name: str, place: str, aggregator: str
) -> None:
    made, batch = _network(name, place), _batch(place)
    flat = _flat(made, SEEDS)
    reduction = Reduction(made, parse_aggregator(aggregator), TASKS)
    leaves = reduction.leaves(flat, torch.float32)
    shared = [leaves.named[key] for key in made.layout.shared]
    grads = torch.autograd.grad(_losses(made, leaves, batch).sum(), shared)
    jacobian = torch.cat([grad.flatten(2) for grad in grads], -1)
    # Halves of a task, where the method splits them, add up to it.
    jacobian = jacobian.unflatten(1, (TASKS, -1)).sum(2)
    for task in range(TASKS):
        alone = _alone(made, flat, batch, task)[:, : made.layout.num_shared]
        torch.testing.assert_close(jacobian[:, task], alone, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", NAMES)
def test_what_a_task_owns_is_moved_by_that_task_alone(name: str, place: str) -> None:
    made, batch = _network(name, place), _batch(place)
    flat = _flat(made, SEEDS)
    for task in range(TASKS):
        grad = _alone(made, flat, batch, task)
        for view in made.owned(grad).values():
            others = [other for other in range(TASKS) if other != task]
            assert view.shape[:2] == (SEEDS, TASKS)
            assert not view[:, others].any() and view[:, task].any()


@pytest.mark.parametrize("aggregator", ["mean", "random", "cagrad", "graddrop"])
@pytest.mark.parametrize("name", NAMES)
def test_owned_parameters_get_the_mean_losss_gradient_whatever_the_method(
    name: str, aggregator: str
) -> None:
    made, batch = _network(name, "numbers"), _batch("numbers")
    flat = _flat(made, SEEDS)
    reduction = Reduction(made, parse_aggregator(aggregator), TASKS)
    shape = reduction.noise_shape()
    noise = None if shape is None else torch.rand(SEEDS, *shape)
    leaves = reduction.leaves(flat, torch.float32)
    losses = _losses(made, leaves, batch)
    state = reduction.init(SEEDS, flat.device)
    grad, _, about = reduction.gradient(
        losses, leaves, state, noise, step=0, again=lambda _: losses
    )
    rows = torch.stack([_alone(made, flat, batch, task) for task in range(TASKS)], 1)
    shared = made.layout.num_shared
    owned = slice(shared, made.num_parameters - made.layout.num_frozen)
    torch.testing.assert_close(grad[:, owned], rows.mean(1)[:, owned], rtol=1e-3, atol=1e-5)
    if "task_weight" in about:
        weights = about["task_weight"].unsqueeze(-1)
        weighted = (rows * weights).sum(1)[:, :shared]
        torch.testing.assert_close(grad[:, :shared], weighted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("place", ["numbers", "layer_norm", "grid", "gru"])
@pytest.mark.parametrize("name", NAMES)
def test_permuted_tasks_have_permuted_outputs(name: str, place: str) -> None:
    made, (x, recall) = _network(name, place), _batch(place)
    flat, order = _flat(made, SEEDS), torch.tensor([2, 0, 1])
    moved = flat.clone()
    views = [made.views(each, torch.float32).named for each in (moved, flat)]
    for key in made.layout.by_task:
        views[0][key].copy_(views[1][key][:, order])
    permuted = None
    if recall is not None:
        permuted = Recall(recall.state[:, order], recall.start[:, order])
    out = made.forward(made.views(flat, torch.float32), x, recall)
    # Rows keep the code of their task, for bodies that read it.
    code = task_code(x)[:, order]
    other = made.forward(made.views(moved, torch.float32), x[:, order], permuted, code=code)
    torch.testing.assert_close(other, out[:, order])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", NAMES)
def test_members_together_are_members_alone(name: str, place: str) -> None:
    made, (x, recall) = _network(name, place), _batch(place)
    flat = _flat(made, 2 * SEEDS)
    if recall is not None:
        recall = recall._replace(state=recall.state.repeat_interleave(2, 0))
    together = made.forward(made.views(flat, torch.float32), x, recall)
    for member in range(2 * SEEDS):
        own = slice(member // 2, member // 2 + 1)
        one = slice(member, member + 1)
        kept = None if recall is None else Recall(recall.state[one], recall.start[own])
        out = made.forward(made.views(flat[one], torch.float32), x[own], kept)
        torch.testing.assert_close(together[one], out, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [3, 300])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", NAMES)
def test_acting_is_the_forward_pass_of_the_update(name: str, place: str, rows: int) -> None:
    made, (x, recall) = _network(name, place), _batch(place, rows)
    # One seed, whose repeated rows are computed once where there are many.
    x, flat = torch.cat([x[:1], x[:1]], 2), _flat(made, 1)
    if recall is not None:
        state = torch.cat([recall.state[:1], recall.state[:1]], 2)
        recall = Recall(state, torch.cat([recall.start[:1], recall.start[:1]], 2))
    update = made.forward(made.layout.leaves(flat, torch.float32), made.look(x), recall)
    with torch.no_grad():
        constants = made.constants(flat, torch.float32)
        acting = made.outputs(constants, made.features(constants, x, recall))
        one_row = made.forward(constants, x[:, :, :1])
        first = made.forward(made.views(flat, torch.float32), x[:, :, :2])[:, :, :1]
    torch.testing.assert_close(acting, update, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one_row, first, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_close_and_outputs_are_float32(name: str, place: str) -> None:
    made, batch = _network(name, place), _batch(place)
    flat = _flat(made, SEEDS)
    exact = made.forward(made.views(flat, torch.float32), *batch)
    rounded = made.forward(made.views(flat, torch.bfloat16), *batch)
    assert exact.dtype == rounded.dtype == torch.float32
    assert 0 < (exact - rounded).abs().max() < 0.1 * exact.abs().max()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", NAMES)
def test_tasks_with_values_of_their_own_are_networks_of_their_own(
    name: str, place: str
) -> None:
    made, (x, recall) = _network(name, place), _batch(place)
    flat = torch.stack([_flat(made, SEEDS) + 0.1 * task for task in range(TASKS)])
    views = [made.views(each, torch.float32).named for each in flat]
    named = {}
    for key in made.layout.all:
        parts = [view[key] for view in views]
        # Task t's share of what each task has is its own row in its own network.
        own = [part[:, task : task + 1] for task, part in enumerate(parts)]
        named[key] = torch.cat(own if key in made.layout.by_task else parts, 1)
    split = made.forward(Params(named, split=True), x, recall)
    for task in range(TASKS):
        out = made.forward(made.views(flat[task], torch.float32), x, recall)
        torch.testing.assert_close(split[:, task], out[:, task], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", NAMES)
def test_initial_values_are_as_declared_and_drawn_from_the_generator(
    name: str, place: str
) -> None:
    made = _network(name, place)
    flat, again = (made.init(4, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(flat, again) and flat.shape == (4, made.num_parameters)
    scaled = made.init(4, torch.Generator().manual_seed(5), head_scale=0.01)
    views, small = (made.views(each, torch.float32) for each in (flat, scaled))
    torch.testing.assert_close(small.of("head")["weight"], 0.01 * views.of("head")["weight"])
    for key, parameter in made.layout.all.items():
        view = views.named[key]
        groups = TASKS if key in made.layout.by_task else 1
        assert view.shape == (4, groups, *parameter.shape)
        if isinstance(parameter.init, float):
            assert (view == parameter.init).all()
        elif parameter.kind != "fixed":
            # Few values can be drawn for a structure, so two members may be alike.
            assert not (view == view[:1]).all()


@pytest.mark.parametrize("place", PLACES)
def test_film_starts_as_the_plain_network(place: str) -> None:
    plain, film, batch = _network("mlp", place), _network("film", place), _batch(place)
    flat = film.init(SEEDS, torch.Generator().manual_seed(3))
    views = film.views(flat, torch.float32)
    common = {key: views.named[key] for key in plain.layout.all}
    out = plain.forward(Params(common), *batch)
    torch.testing.assert_close(film.forward(views, *batch), out, rtol=1e-4, atol=1e-5)
    moved = film.forward(film.views(_flat(film, SEEDS), torch.float32), *batch)
    assert (moved - out).abs().max() > 1e-3


def test_moores_experts_are_orthonormal_at_every_row() -> None:
    from mtrl.agents.networks.bodies.moore import orthonormal

    vectors = torch.randn(
        SEEDS, 4, TASKS, ROWS, WIDTH, generator=torch.Generator().manual_seed(0)
    )
    basis = torch.stack(orthonormal(vectors), -2)
    torch.testing.assert_close(
        basis @ basis.mT, torch.eye(4).expand(SEEDS, TASKS, ROWS, 4, 4), rtol=0, atol=1e-4
    )
    equal = torch.stack(orthonormal(vectors[:, :1].expand(-1, 4, -1, -1, -1)), -2)
    assert torch.isfinite(equal).all()


def test_nobody_outside_asks_for_a_parameter_by_name() -> None:
    agents = Path(mtrl.agents.__file__).resolve().parent
    named = re.compile(r'"(encoder|body|memory|head|trunk)\.')
    for path in agents.rglob("*.py"):
        if path.parent.name not in ("networks", "bodies"):
            assert not named.search(path.read_text(encoding="utf-8")), path
