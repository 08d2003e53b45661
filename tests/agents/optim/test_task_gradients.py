"""Reductions of per-task gradients, against one backward pass per task."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from mtrl.agents.aggregators import AGGREGATORS, parse_aggregator
from mtrl.agents.networks.network import Network
from mtrl.agents.networks.parameters import Params
from mtrl.agents.optim.task_gradients import Reduction
from tests.helpers.networks import mlp

TASKS, SEEDS = 3, 2


def never(params: Params) -> Tensor:
    """The losses once more, for methods that must not ask."""
    raise AssertionError("the losses were computed twice")


def _losses(network: Network, leaves: Params, x: Tensor, twins: int) -> Tensor:
    out = network.forward(leaves, x).square().mean((-2, -1))
    return out.view(SEEDS, twins, TASKS).sum(1)


def _setting(aggregator: str, heads: int, twins: int) -> tuple[Reduction, Tensor, Tensor]:
    network = mlp(in_dim=4, width=8, depth=2, out_dim=2, num_heads=heads)
    generator = torch.Generator().manual_seed(3)
    flat = network.init(SEEDS * twins, generator)
    return (
        Reduction(network, parse_aggregator(aggregator), TASKS, twins),
        flat,
        torch.randn(SEEDS, TASKS, 6, 4, generator=generator),
    )


def _gradient(aggregator: str, heads: int, twins: int) -> Tensor:
    reduction, flat, x = _setting(aggregator, heads, twins)
    leaves = reduction.leaves(flat, torch.float32)
    shape = reduction.noise_shape()
    noise = (
        None
        if shape is None
        else torch.rand(SEEDS, *shape, generator=torch.Generator().manual_seed(0))
    )
    losses = _losses(reduction.network, leaves, x, twins)
    success = torch.tensor([[0.1, 0.5, 0.9]]).expand(SEEDS, -1)
    state = reduction.init(SEEDS, torch.device("cpu"))
    return reduction.gradient(losses, leaves, state, noise, success, 0, again=never)[0]


def _task_rows(heads: int, twins: int) -> Tensor:
    """Full gradients of each task's loss by separate backward passes, ``[S, T, twins, P]``."""
    reduction, flat, x = _setting("mean", heads, twins)
    rows = []
    for task in range(TASKS):
        leaf = flat.clone().requires_grad_()
        losses = _losses(
            reduction.network, reduction.network.views(leaf, torch.float32), x, twins
        )
        rows.append(torch.autograd.grad(losses[:, task].sum(), leaf)[0].view(SEEDS, twins, -1))
    return torch.stack(rows, 1)


@pytest.mark.parametrize("heads", [1, TASKS])
@pytest.mark.parametrize("twins", [1, 2])
def test_mean_and_sum_are_averages_of_separate_backward_passes(heads: int, twins: int) -> None:
    rows = _task_rows(heads, twins)
    mean = rows.mean(1).flatten(0, 1)
    torch.testing.assert_close(_gradient("mean", heads, twins), mean, rtol=1e-4, atol=1e-6)
    summed = _gradient("sum", heads, twins)
    shared = _setting("sum", heads, twins)[0].num_shared // twins
    torch.testing.assert_close(
        summed[:, :shared], TASKS * mean[:, :shared], rtol=1e-4, atol=1e-6
    )
    torch.testing.assert_close(summed[:, shared:], mean[:, shared:], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("heads", [1, TASKS])
@pytest.mark.parametrize("twins", [1, 2])
@pytest.mark.parametrize("aggregator", ["random", "dwa", "success-focal"])
def test_weights_known_from_the_losses_need_one_backward_pass(
    aggregator: str, heads: int, twins: int
) -> None:
    reduction, flat, x = _setting(aggregator, heads, twins)
    assert reduction.losses_suffice
    leaves = reduction.leaves(flat, torch.float32)
    views = reduction.network.views(flat, flat.dtype)
    assert [leaf.shape for leaf in leaves.named.values()] == [
        view.shape for view in views.named.values()
    ]
    shape = reduction.noise_shape()
    noise = (
        None
        if shape is None
        else torch.rand(SEEDS, *shape, generator=torch.Generator().manual_seed(0))
    )
    losses = _losses(reduction.network, leaves, x, twins)
    success = torch.tensor([[0.1, 0.5, 0.9]]).expand(SEEDS, -1)
    state = reduction.init(SEEDS, torch.device("cpu"))
    actual, _, about = reduction.gradient(losses, leaves, state, noise, success, 0, again=never)
    rows, shared = _task_rows(heads, twins), reduction.num_shared // twins
    expected = (rows * about["task_weight"][..., None, None]).sum(1).flatten(0, 1)
    torch.testing.assert_close(actual[:, :shared], expected[:, :shared], rtol=1e-4, atol=1e-6)
    own = rows.mean(1).flatten(0, 1)
    torch.testing.assert_close(actual[:, shared:], own[:, shared:], rtol=1e-4, atol=1e-6)
    assert aggregator == "dwa" or about["task_weight"].std() > 0.01


@pytest.mark.parametrize("heads", [1, TASKS])
@pytest.mark.parametrize("twins", [1, 2])
@pytest.mark.parametrize("aggregator", ["upgrad", "cagrad", "mgda", "nash-mtl", "moco"])
def test_methods_see_the_gramian_of_the_shared_parameters_of_both_twins(
    aggregator: str, heads: int, twins: int
) -> None:
    from mtrl.agents.aggregators import Inputs

    reduction, _, _ = _setting(aggregator, heads, twins)
    shared = reduction.num_shared // twins
    jacobian = _task_rows(heads, twins)[..., :shared].flatten(2)
    state = reduction.init(SEEDS, torch.device("cpu"))
    losses = torch.ones(SEEDS, TASKS)
    direction, _ = reduction.aggregator.direction(
        Inputs(jacobian=jacobian, losses=losses, step=0), state
    )
    actual = _gradient(aggregator, heads, twins)[:, :shared].reshape(SEEDS, -1)
    torch.testing.assert_close(actual, direction.direction, rtol=1e-3, atol=1e-5)


def test_halves_of_a_batch_give_independent_gradients() -> None:
    """SDMGrad's cross Gramian uses two half batches: the halves' mean is the task's gradient."""
    reduction, flat, x = _setting("sdmgrad", TASKS, 1)
    leaves = reduction.leaves(flat, torch.float32)
    losses = _losses(reduction.network, leaves, x, 1)
    names = list(reduction.network.layout.shared)
    grads = torch.autograd.grad(losses.sum(), [leaves.named[name] for name in names])
    rows = torch.cat([grad.flatten(2) for grad in grads], -1)
    assert rows.shape[1] == 2 * TASKS
    expected = _task_rows(TASKS, 1)[..., : reduction.num_shared].flatten(2)
    torch.testing.assert_close(rows[:, 0::2] + rows[:, 1::2], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("aggregator", sorted(AGGREGATORS))
def test_every_method_gives_a_finite_gradient(aggregator: str) -> None:
    grad = _gradient(aggregator, TASKS, 2)
    assert torch.isfinite(grad).all() and grad.abs().max() > 0


@pytest.mark.parametrize("aggregator", ["mean", "random", "cagrad", "graddrop", "sdmgrad"])
def test_diagnostics_describe_the_task_gradients_and_change_nothing_else(
    aggregator: str,
) -> None:
    found = []
    for diagnose in (False, True):
        reduction, flat, x = _setting(aggregator, TASKS, 1)
        reduction = dataclasses.replace(reduction, diagnose=diagnose)
        leaves = reduction.leaves(flat, torch.float32)
        shape = reduction.noise_shape()
        noise = (
            None
            if shape is None
            else torch.rand(SEEDS, *shape, generator=torch.Generator().manual_seed(0))
        )
        losses = _losses(reduction.network, leaves, x, 1)
        state = reduction.init(SEEDS, torch.device("cpu"))
        found.append(reduction.gradient(losses, leaves, state, noise, step=0, again=never))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-4, atol=1e-6)
    rows = _task_rows(TASKS, 1)[..., : reduction.num_shared].flatten(2)
    unit = torch.nn.functional.normalize(rows, dim=-1)
    torch.testing.assert_close(found[1][2]["cosines"], unit @ unit.mT, rtol=1e-4, atol=1e-5)
    singular = torch.linalg.svdvals(rows)
    expected = singular[:, -1] / singular[:, 0]
    torch.testing.assert_close(
        found[1][2]["inverse_condition_number"], expected, rtol=1e-3, atol=1e-5
    )
    assert "cosines" not in found[0][2]


@pytest.mark.parametrize(
    "aggregator", ["mean", "gradvac", "sam-gs", "moco", "db-mtl:log_losses=false", "excess-mtl"]
)
def test_gradients_kept_for_a_curriculum_do_not_touch_those_that_a_method_keeps(
    aggregator: str,
) -> None:
    found = []
    for track in (False, True):
        reduction, flat, x = _setting(aggregator, TASKS, 1)
        reduction = dataclasses.replace(reduction, track=track)
        state = reduction.init(SEEDS, torch.device("cpu"))
        shape = reduction.noise_shape()
        noise = (
            None
            if shape is None
            else torch.rand(SEEDS, *shape, generator=torch.Generator().manual_seed(0))
        )
        for _ in range(2):
            leaves = reduction.leaves(flat, torch.float32)
            losses = _losses(reduction.network, leaves, x, 1)
            grad, state, _ = reduction.gradient(
                losses, leaves, state, noise, step=0, again=never
            )
        found.append(grad)
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)
    assert (state["tracked"] != 0).any()
