"""The fused layers against plain autograd, float64 where exactness is the point."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtrl.agents.networks.chain import ReLUTrunk
from mtrl.agents.networks.linear import LinearHeads, differs_by_task, experts_as_members
from tests.helpers.networks import mlp


def _reference(x: Tensor, params: list[Tensor], twins: int) -> Tensor:
    h = x.repeat_interleave(twins, 0)
    for weight, bias in zip(params[::2], params[1::2]):
        h = torch.relu(torch.einsum("ktbi,kgoi->ktbo", h, weight) + bias.unsqueeze(2))
    return h


def _problem(seeds: int, twins: int, dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(seeds * 10 + twins)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype).requires_grad_()

    members = seeds * twins
    shapes = [(members, 1, 6, 5), (members, 1, 6), (members, 1, 7, 6), (members, 1, 7)]
    return draw(seeds, 3, 4, 5), [draw(*shape) for shape in shapes]


@pytest.mark.parametrize(("seeds", "twins"), [(1, 1), (1, 2), (3, 1), (3, 2)])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 5e-2)]
)
def test_forward_and_gradients_match_autograd(
    seeds: int, twins: int, dtype: torch.dtype, tolerance: float
) -> None:
    x, params = _problem(seeds, twins, dtype)
    exact = [p.detach().float().requires_grad_() for p in (x, *params)]
    expected = _reference(exact[0], exact[1:], twins)
    out = ReLUTrunk.apply(x, *params)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, expected, rtol=tolerance, atol=tolerance)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(0))
    grads = torch.autograd.grad((out * weights).sum(), [x, *params])
    references = torch.autograd.grad((expected * weights).sum(), exact)
    for grad, reference in zip(grads, references):
        scale = reference.abs().max()
        torch.testing.assert_close(
            grad.float() / scale, reference / scale, rtol=0, atol=4 * tolerance
        )


def test_frozen_weights_get_no_gradient_and_inputs_do() -> None:
    x, params = _problem(1, 2, torch.float32)
    frozen = [p.detach() for p in params]
    out = ReLUTrunk.apply(x, *frozen)
    (grad,) = torch.autograd.grad(out.sum(), [x])
    (expected,) = torch.autograd.grad(_reference(x, frozen, 2).sum(), [x])
    torch.testing.assert_close(grad, expected)


def test_a_minimum_over_members_sends_its_gradient_through_one_of_them() -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(1, 2, 12, 5, generator=generator).requires_grad_()
    shapes = [(2, 1, 6, 5), (2, 1, 6), (2, 1, 7, 6), (2, 1, 7)]
    params = [torch.randn(shape, generator=generator) for shape in shapes]
    grads = []
    for out in (ReLUTrunk.apply(x, *params), _reference(x, params, 2)):
        # Each row through one of the two members.
        grads += torch.autograd.grad(out.sum(-1).amin(0).sum(), [x])
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("outputs", [1, 2])
def test_heads_match_autograd(outputs: int) -> None:
    generator = torch.Generator().manual_seed(1)
    hidden, weight, bias = (
        torch.randn(s, generator=generator).requires_grad_()
        for s in [(4, 5, 3), (4, outputs, 3), (4, outputs)]
    )
    out = LinearHeads.apply(hidden, weight, bias)
    expected = torch.einsum("nrw,now->nro", hidden, weight) + bias[:, None]
    torch.testing.assert_close(out, expected)
    for grad, reference in zip(
        torch.autograd.grad(out.square().sum(), [hidden, weight, bias]),
        torch.autograd.grad(expected.square().sum(), [hidden, weight, bias]),
    ):
        torch.testing.assert_close(grad, reference)


@given(
    tasks=st.integers(1, 4),
    heads=st.booleans(),
    activation=st.sampled_from(["relu", "tanh", "layer_norm"]),
    seed=st.integers(0, 100),
)
@settings(max_examples=15, deadline=None)
def test_per_task_gradients_equal_one_backward_per_task(
    tasks: int, heads: bool, activation: Literal["relu", "tanh", "layer_norm"], seed: int
) -> None:
    network = mlp(5, 8, 2, 3, tasks if heads else 1, activation)
    generator = torch.Generator().manual_seed(seed)
    flat = network.init(2, generator)
    x = torch.randn(2, tasks, 6, 5, generator=generator)
    leaves = network.layout.leaves(flat, torch.float32)
    per_task = network.layout.per_task(leaves, tasks)
    losses = network.forward(per_task, x).square().mean((-2, -1))
    names = list(network.layout.shared)
    jacobian = torch.autograd.grad(losses.sum(), [per_task.named[name] for name in names])
    for task in range(tasks):
        loss = network.forward(leaves, x).square().mean((-2, -1))[:, task].sum()
        for grads, reference in zip(
            jacobian, torch.autograd.grad(loss, [leaves.named[name] for name in names])
        ):
            torch.testing.assert_close(grads[:, task], reference[:, 0], rtol=1e-4, atol=1e-5)


def test_gradients_match_finite_differences() -> None:
    network = mlp(in_dim=3, width=6, depth=2, out_dim=2, num_heads=2)
    generator = torch.Generator().manual_seed(5)
    flat = network.init(1, generator)
    x = torch.randn(1, 2, 8, 3, generator=generator)

    def loss(parameters: Tensor) -> Tensor:
        return network.forward(network.views(parameters, torch.float32), x).square().mean()

    leaves = network.layout.leaves(flat, torch.float32)
    loss_here = network.forward(leaves, x).square().mean()
    grads = torch.autograd.grad(loss_here, list(leaves.named.values()))
    gradient = network.layout.flatten(grads)
    direction = torch.randn(flat.shape, generator=generator)
    step = 1e-3 * direction / direction.norm()
    difference = loss(flat + step) - loss(flat - step)
    torch.testing.assert_close(difference, 2 * (gradient * step).sum(), rtol=2e-2, atol=1e-6)


@pytest.mark.parametrize("activation", ["tanh", "layer_norm"])
@pytest.mark.parametrize("seeds", [1, 3])
def test_other_trunks_match_autograd(
    activation: Literal["tanh", "layer_norm"], seeds: int
) -> None:
    network = mlp(in_dim=5, width=8, depth=2, out_dim=3, num_heads=2, activation=activation)
    generator = torch.Generator().manual_seed(seeds)
    flat = network.init(seeds, generator)
    flat += 0.1 * torch.randn(flat.shape, generator=generator)  # gains and biases of their own
    x = torch.randn(seeds, 2, 6, 5, generator=generator)
    params = network.layout.leaves(flat, torch.float32)
    leaves = params.of("body")
    out = network.features(params, x)
    hidden = x
    for layer in range(2):
        hidden = torch.einsum("ktbi,kgoi->ktbo", hidden, leaves[f"{layer}.weight"])
        bias = leaves[f"{layer}.bias"].unsqueeze(2)
        if activation == "tanh":
            hidden = torch.tanh(hidden + bias)
        else:
            scale = (hidden.var(-1, correction=0, keepdim=True) + 1e-5).rsqrt()
            gain = leaves[f"{layer}.gain"].unsqueeze(2)
            hidden = torch.relu((hidden - hidden.mean(-1, keepdim=True)) * scale * gain + bias)
    torch.testing.assert_close(out, hidden, rtol=1e-4, atol=1e-5)
    trunk = list(leaves.values())
    for grad, reference in zip(
        torch.autograd.grad(out.square().sum(), trunk),
        torch.autograd.grad(hidden.square().sum(), trunk),
    ):
        torch.testing.assert_close(grad, reference, rtol=1e-3, atol=1e-4)
    low = network.features(network.views(flat, torch.bfloat16), x)
    torch.testing.assert_close(low, out, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("groups", [1, 3])
def test_experts_become_members_without_a_copy_for_each_task(groups: int) -> None:
    """Two members, whose experts do not lie one after the other in memory."""
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(2, 100, generator=generator)
    view = flat[:, 10:50].view(2, 1, 4, 5, 2).expand(-1, groups, -1, -1, -1)
    leaf = view.detach().requires_grad_()
    members = experts_as_members(leaf)
    assert members.shape == (8, groups, 5, 2) and not differs_by_task(members)
    assert torch.equal(members[5], leaf[1, :, 1])
    slope = torch.randn(members.shape, generator=generator)
    (grad,) = torch.autograd.grad(members, leaf, slope)
    assert torch.equal(grad[1, :, 1], slope[5])
    own = torch.randn(2, 3, 4, 5, 2, generator=generator)
    assert torch.equal(experts_as_members(own)[6], own[1, :, 2])
