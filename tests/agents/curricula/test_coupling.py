"""The pull on coupled parameters is the gradient of the distance it stands for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mtrl.agents.curricula.base import Turn
from mtrl.agents.curricula.coupling import (
    HeadPull,
    MemberPull,
    add_pull,
    equal_heads,
    geometry,
    member_pull,
    owned_agents,
    owned_heads,
)
from tests.agents.curricula.cases import f64
from tests.helpers.networks import mlp

NET = mlp(3, 4, 1, 2, num_heads=3)
LONE = mlp(3, 4, 1, 2, num_heads=1)


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_a_members_pull_is_the_gradient_of_its_distance() -> None:
    params = _random(3, 2, LONE.num_parameters)  # three agents, twin critics
    combination = f64(0.3, 0.2, 0.5)
    pull = member_pull(
        Turn(1, combination, 0.1), {"critic": {"params": params}}, {"critic": LONE}
    )
    own = params[1:2].clone().requires_grad_()
    c = combination.float()
    distance = 0.1 * (own - c[0] * params[0] - c[1] * own - c[2] * params[2]).square().sum()
    (wanted,) = torch.autograd.grad(distance, [own])
    torch.testing.assert_close(pull.gradient("critic", LONE, params[1:2]), wanted)


def test_the_heads_pull_is_the_gradient_of_each_heads_distance_and_spares_the_trunk() -> None:
    params = _random(1, 2, NET.num_parameters)
    combinations = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.7, 0.1], [0.0, 0.0, 1.0]])
    grad = HeadPull(combinations, 0.1).gradient("critic", NET, params)
    views, slopes = (NET.views(flat[0], torch.float32).named for flat in (params, grad))
    for part in NET.layout.owned:
        heads = views[part]  # [2, T, ...]
        for task in range(3):
            own = heads[:, task].clone().requires_grad_()
            mixed = sum(
                combinations[task, j] * (own if j == task else heads[:, j]) for j in range(3)
            )
            (wanted,) = torch.autograd.grad(0.1 * (own - mixed).square().sum(), [own])
            torch.testing.assert_close(slopes[part][:, task], wanted)
    assert not slopes["body.0.weight"].any()


def test_the_size_of_a_pull_is_measured_beside_the_gradient() -> None:
    # w_0 keeps 3/4 of itself and takes 1/4 of w_1, so the distance is 1/4 (w_0 - w_1).
    params = torch.zeros(2, LONE.num_parameters)
    params[0, :2] = torch.tensor([5.0, 8.0])
    params[1, :2] = torch.tensor([-7.0, -8.0])
    turn = Turn(0, f64(0.75, 0.25), 0.1)
    pull = member_pull(turn, {"actor": {"params": params}}, {"actor": LONE})
    grad = torch.zeros(1, LONE.num_parameters)
    grad[0, 1:3] = torch.tensor([3.0, -4.0])
    about = add_pull(pull, "actor", LONE, params[:1], grad)
    # 2 · 0.1 · 1/4 · (3, 4) = (0.15, 0.2).
    torch.testing.assert_close(about["pull_norm"], torch.tensor([0.25]))
    torch.testing.assert_close(about["unpulled_norm"], torch.tensor([5.0]))
    torch.testing.assert_close(grad[0, :4], torch.tensor([0.15, 3.2, -4.0, 0.0]))


def test_the_size_of_a_pull_counts_both_twins() -> None:
    params = torch.zeros(1, 2, 3)
    pull = MemberPull(0.5, 1.0, {"critic": torch.tensor([[[-3.0, 0, 0], [0, 4.0, 0]]])})
    grad = torch.tensor([[[1.0, 2, 0], [0, 0, 2]]])
    about = add_pull(pull, "critic", LONE, params, grad)
    # 2 · 1 · 0.5 · (0 - sources): (3, 0, 0) and (0, -4, 0).
    assert about["pull_norm"].tolist() == [5.0] and about["unpulled_norm"].tolist() == [3.0]
    assert grad.tolist() == [[[4, 2, 0], [0, -4, 2]]]


def test_without_a_pull_nothing_is_added_or_measured() -> None:
    grad = torch.ones(1, 3)
    assert add_pull(None, "actor", LONE, torch.zeros(1, 3), grad) == {}
    assert grad.tolist() == [[1, 1, 1]]


def test_owned_heads_hold_each_tasks_head_of_every_twin() -> None:
    state: Any = {"critic": {"params": _random(1, 2, NET.num_parameters)}}
    owned = owned_heads(state, {"critic": NET})["critic"]
    assert owned.shape == (3, 2 * (2 * 4 + 2))
    equal_heads(state, {"critic": NET})
    owned = owned_heads(state, {"critic": NET})["critic"]
    assert torch.equal(owned[0], owned[1]) and torch.equal(owned[0], owned[2])


def test_geometry_measures_displacements_and_policies() -> None:
    params = _random(3, 1, LONE.num_parameters)
    owned = owned_agents({"actor": {"params": params}}, {"actor": LONE})
    origin = {"actor": owned["actor"][:1].clone()}
    features = torch.stack([torch.zeros(5, 2), torch.zeros(5, 2), torch.ones(5, 2)])
    view = geometry(owned, origin, features)
    moved = (params - params[:1]).flatten(1).double()
    torch.testing.assert_close(view.products, moved @ moved.T, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        view.similarity, -torch.tensor([[0.0, 0, 2], [0, 0, 2], [2, 2, 0]], dtype=torch.float64)
    )
