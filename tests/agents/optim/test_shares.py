"""A curriculum's shares, through the reduction of a network with heads of the tasks' own."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from mtrl.agents import MTPPOConfig, MTSACConfig
from mtrl.agents.aggregators import AGGREGATORS, Inputs, make_aggregator, parse_aggregator
from mtrl.agents.errors import AgentError
from mtrl.agents.networks.parameters import Params
from mtrl.agents.optim.task_gradients import Reduction
from tests.helpers.networks import mlp

TASKS = 3
NETWORK = mlp(in_dim=4, width=8, depth=2, out_dim=2, num_heads=TASKS)
SHARED = NETWORK.layout.num_shared
TAKES_SHARES = ["nash-mtl", "fairgrad", "aligned-mtl", "cagrad", "upgrad", "pcgrad", "mean"]


def losses_at(leaves: Params) -> Tensor:
    x = torch.randn(1, TASKS, 6, 4, generator=torch.Generator().manual_seed(1))
    return NETWORK.forward(leaves, x).square().mean((-2, -1))


def reduce(
    text: str, weights: list[float] | None, own: tuple[float, ...] | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Gradient ``[P]`` and metrics of one update."""
    reduction = Reduction(NETWORK, parse_aggregator(text), TASKS, preferences=own)
    flat = NETWORK.init(1, torch.Generator().manual_seed(0))
    leaves = reduction.leaves(flat, torch.float32)
    shape = reduction.noise_shape()
    noise = None
    if shape is not None:
        noise = torch.rand(1, *shape, generator=torch.Generator().manual_seed(2))
    factors = None if weights is None else torch.tensor([weights])
    grad, _, metrics = reduction.gradient(
        losses_at(leaves),
        leaves,
        reduction.init(1, flat.device, flat),
        noise,
        step=0,
        weights=factors,
        again=losses_at,
    )
    return grad[0], metrics


def task_rows() -> Tensor:
    """Each task's whole gradient ``[T, P]``, by separate backward passes."""
    flat = NETWORK.init(1, torch.Generator().manual_seed(0)).requires_grad_()
    rows = []
    for task in range(TASKS):
        losses = losses_at(NETWORK.views(flat, torch.float32))
        rows.append(torch.autograd.grad(losses[0, task], flat)[0][0])
    return torch.stack(rows)


@pytest.mark.parametrize("name", ["mgda", "imtl-g", "config", "aligned-mtl", "cagrad"])
def test_the_trunk_learns_while_a_group_rests(name: str) -> None:
    """The update is that of the two tasks which train; a gradient of zero in the solve would freeze MGDA."""
    grad, metrics = reduce(name, [1.5, 0.0, 1.5])
    rows = task_rows()[[0, 2], :SHARED].unsqueeze(0)
    expected, _ = make_aggregator(name).direction(Inputs(jacobian=rows), {})
    torch.testing.assert_close(grad[:SHARED], expected.direction[0], rtol=1e-3, atol=1e-5)
    assert grad[:SHARED].norm() > 1e-3
    assert not metrics["solve_failures"].any()


@pytest.mark.parametrize("name", TAKES_SHARES)
def test_shares_turn_the_update_of_the_trunk_to_the_task_they_favour(name: str) -> None:
    rows = task_rows()[:, :SHARED]
    units = rows / rows.norm(dim=1, keepdim=True)
    gains = []
    for weights in ([0.2, 1.4, 1.4], None, [2.6, 0.2, 0.2]):
        grad = reduce(name, weights)[0][:SHARED]
        gains.append(float(units[0] @ grad / grad.norm()))
    assert gains[0] < gains[1] < gains[2]
    assert gains[2] - gains[0] > 0.02


@pytest.mark.parametrize("name", [*TAKES_SHARES, "mgda", "uncertainty"])
def test_heads_get_their_own_gradient_times_their_share(name: str) -> None:
    weights = [1.5, 0.0, 1.5]
    grad, _ = reduce(name, weights)
    expected = (task_rows() * torch.tensor(weights).unsqueeze(1)).mean(0)
    torch.testing.assert_close(grad[SHARED:], expected[SHARED:], rtol=1e-4, atol=1e-6)


def test_a_users_preferences_and_shares_multiply() -> None:
    asked, _ = reduce("aligned-mtl", None, own=(0.5, 0.25, 0.25))
    both, _ = reduce("aligned-mtl", [1.5, 1.0, 0.5], own=(0.5, 0.25, 0.25))
    rows = task_rows()[:, :SHARED].unsqueeze(0)
    for grad, wished in (
        (asked, [0.5, 0.25, 0.25]),
        (both, [0.75 / 1.125, 0.25 / 1.125, 1 / 9]),
    ):
        inputs = Inputs(jacobian=rows, preferences=torch.tensor([wished]))
        expected, _ = make_aggregator("aligned-mtl").direction(inputs, {})
        torch.testing.assert_close(grad[:SHARED], expected.direction[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("config", [MTPPOConfig, MTSACConfig])
@pytest.mark.parametrize(
    "curriculum", ["mrcl", "drats", "success-focal", "son-goku", "uniform"]
)
@pytest.mark.parametrize(
    "name", ["mgda", "imtl-g", "config", "sdmgrad", "moco", "sam-gs", "nash-mtl"]
)
def test_methods_that_can_do_nothing_right_with_shares_are_refused(
    config: type, curriculum: str, name: str
) -> None:
    shares = AGGREGATORS[name]().info.shares
    fits = curriculum == "uniform" or shares in ("losses", "preferences")
    fits = fits or (curriculum == "son-goku" and shares == "groups")
    if fits:
        assert config(aggregator=name, curriculum=curriculum).aggregators[0].info.name == name
        return
    reason = "has no way to prefer tasks" if shares == "groups" else "needs every task"
    sentence = (
        f"aggregator: '{name}' {reason}.* curriculum '{curriculum}' gives tasks different"
    )
    with pytest.raises(AgentError, match=sentence + r".*; use one of .*nash-mtl"):
        config(aggregator=name, curriculum=curriculum)


def test_a_refusal_names_only_methods_that_go_with_the_curriculum() -> None:
    with pytest.raises(AgentError) as caught:
        MTPPOConfig(aggregator="mgda", curriculum="mrcl")
    names = re.split(r", ", str(caught.value).rpartition("use one of ")[2])
    assert "mgda" not in names
    assert {AGGREGATORS[name]().info.shares for name in names} == {"losses", "preferences"}
