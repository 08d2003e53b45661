"""Clipping against norms worked by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtrl.agents.networks.bodies.moore import MOORE
from mtrl.agents.networks.encoder import Identity
from mtrl.agents.optim.clipping import clip_by_norm, clip_network
from tests.helpers.networks import mlp, network

# Without hidden layers' inputs there are two shared parameters (1 weight, 1 bias), and two a task (head weight, bias).
MULTI_HEAD = mlp(in_dim=1, width=1, depth=1, out_dim=1, num_heads=2)
ONE_HEAD = mlp(in_dim=1, width=1, depth=1, out_dim=1, num_heads=1)


def close(found: torch.Tensor, wanted: list) -> None:
    torch.testing.assert_close(found, torch.tensor(wanted))


def test_the_length_of_the_shared_part_does_not_reach_the_heads() -> None:
    # Shared (3, 4) of norm 5 and (30, 40) of norm 50; heads (0, 0, 0, 2) of norm 2.
    grad = torch.tensor([[3.0, 4.0, 0.0, 0.0, 0.0, 2.0], [30.0, 40.0, 0.0, 0.0, 0.0, 2.0]])
    about = clip_network(grad, MULTI_HEAD, 1.0, apart=True)
    close(grad, [[0.6, 0.8, 0.0, 0.0, 0.0, 1.0]] * 2)
    close(about["shared_clip"], [0.2, 0.02])
    close(about["owned_clip"], [0.5, 0.5])
    close(about["grad_norm"], [29**0.5, 2504**0.5])


def test_under_one_norm_the_heads_shrink_with_the_trunk() -> None:
    # Norms 13 and 130 of (3, 4, 12) and (30, 40, 120): both come out the same, and heads shrink by the trunk's factor.
    grad = torch.tensor([[3.0, 4.0, 0.0, 0.0, 0.0, 12.0], [30.0, 40.0, 0.0, 0.0, 0.0, 120.0]])
    about = clip_network(grad, MULTI_HEAD, 1.0, apart=False)
    close(grad, [[3 / 13, 4 / 13, 0.0, 0.0, 0.0, 12 / 13]] * 2)
    close(about["grad_norm"], [13.0, 130.0])
    close(about["shared_clip"], [1 / 13, 1 / 130])
    close(about["owned_clip"], [1 / 13, 1 / 130])


def test_a_part_below_the_limit_keeps_its_length() -> None:
    grad = torch.tensor([[3.0, 4.0, 0.1, 0.0, 0.0, 0.2]])
    about = clip_network(grad, MULTI_HEAD, 1.0, apart=True)
    close(grad, [[0.6, 0.8, 0.1, 0.0, 0.0, 0.2]])
    close(about["owned_clip"], [1.0])


def test_twins_are_clipped_together() -> None:
    grad = torch.tensor([[[3.0, 0.0, 0.0, 0.0, 0.0, 6.0], [0.0, 4.0, 8.0, 0.0, 0.0, 0.0]]])
    about = clip_network(grad, MULTI_HEAD, 1.0, apart=True)
    close(grad, [[[0.6, 0.0, 0.0, 0.0, 0.0, 0.6], [0.0, 0.8, 0.8, 0.0, 0.0, 0.0]]])
    close(about["shared_clip"], [0.2])
    close(about["owned_clip"], [0.1])


def test_a_head_that_all_tasks_share_is_clipped_with_the_trunk() -> None:
    grad = torch.tensor([[3.0, 0.0, 4.0, 0.0]])
    about = clip_network(grad, ONE_HEAD, 1.0, apart=True)
    close(grad, [[0.6, 0.0, 0.8, 0.0]])
    assert about.keys() == {"grad_norm", "shared_clip"}
    close(about["grad_norm"], [5.0])


def test_without_a_limit_every_factor_is_1() -> None:
    grad = torch.tensor([[3.0, 4.0, 0.0, 0.0, 0.0, 12.0]])
    about = clip_network(grad, MULTI_HEAD, None, apart=True)
    close(grad, [[3.0, 4.0, 0.0, 0.0, 0.0, 12.0]])
    assert {name: value.item() for name, value in about.items()} == {
        "grad_norm": 13.0,
        "shared_clip": 1.0,
        "owned_clip": 1.0,
    }


def test_what_a_body_gives_each_task_is_clipped_with_the_heads() -> None:
    net = network(Identity(1), 1, 1, 1, num_heads=2, body=MOORE(experts=2))
    layout = net.layout
    assert "body.mixture" in layout.owned
    grad = torch.zeros(1, net.num_parameters)
    grad[:, 0] = 4.0
    grad[:, layout.places["body.mixture"].start] = 5.0
    about = clip_network(grad, net, 2.0, apart=True)
    close(about["shared_clip"], [0.5])
    close(about["owned_clip"], [0.4])
    close(grad.sum(-1), [4.0])


@given(scale=st.floats(1e-6, 1e6), limit=st.floats(0.1, 10))
@settings(max_examples=50, deadline=None)
def test_each_seed_is_clipped_by_its_own_norm(scale: float, limit: float) -> None:
    grad = torch.stack([torch.full((2, 3), 1e-3), torch.full((2, 3), scale)])
    before = grad.clone()
    norms, factors = clip_by_norm([grad], limit)
    norm = norms[0]
    torch.testing.assert_close(norm, before.flatten(1).norm(dim=1))
    after = grad.flatten(1).norm(dim=1)
    torch.testing.assert_close(after, norm.clamp_max(limit), rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(after, norm * factors[0], rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(grad[0], before[0])


@pytest.mark.parametrize("limit", [1.0, None])
def test_a_gradient_of_zeros_stays_zero(limit: float | None) -> None:
    grad = torch.zeros(1, 6)
    about = clip_network(grad, MULTI_HEAD, limit, apart=True)
    assert (grad == 0).all()
    close(about["shared_clip"], [1.0])
