"""What adapters claim: they start as the MLP, change weights as their equations say, and share what they share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mtrl.agents.networks.bodies.adapted import Adapted
from mtrl.agents.networks.bodies.body import Body, Step
from mtrl.agents.networks.bodies.lora import AlignLoRA, LoRA, MultiLoRA, divergence
from mtrl.agents.networks.bodies.mlp import MLP
from mtrl.agents.networks.bodies.molora import MoLoRA
from mtrl.agents.networks.bodies.mtl_lora import CPoly, MTLLoRA, MTLoRA
from mtrl.agents.networks.bodies.ptsl import PTSL
from mtrl.agents.networks.layers import Named, Size
from tests.agents.networks.test_mixtures import SIZE, TASKS, draw, gradients, rows

BODIES = [
    LoRA(rank=2),
    LoRA(rank=2, adapter="shared"),
    MultiLoRA(rank=2),
    MTLLoRA(rank=2),
    MTLoRA(rank=2, own_rank=1),
    MoLoRA(rank=2, experts=4),
    MoLoRA(rank=2, experts=4, always=True),
    CPoly(rank=2),
    CPoly(rank=2, own_rank=0),
    AlignLoRA(rank=2),
    PTSL(inner=3),
]
IDS = [f"{type(body).__name__}-{place}" for place, body in enumerate(BODIES)]


def _moved(body: Body, seed: int = 5) -> Named:
    """Parameters away from their start."""
    p = draw(body)
    generator = torch.Generator().manual_seed(seed)
    for view in p.values():
        view.data.add_(0.3 * torch.randn(view.shape, generator=generator))
    return p


@pytest.mark.parametrize("activation", ["tanh", "layer_norm"])
@pytest.mark.parametrize("body", BODIES, ids=IDS)
def test_an_adapter_starts_as_the_plain_network_and_leaves_it(
    body: Body, activation: Any
) -> None:
    torch.manual_seed(0)
    size = Size(SIZE.inputs, SIZE.width, SIZE.depth, activation, TASKS)
    p = draw(body, size)
    plain = {name: p[name] for name in MLP().parameters(size)}
    base = MLP().features(plain, rows(), Step(size))
    torch.testing.assert_close(body.features(p, rows(), Step(size)), base)
    noise = torch.rand(1, TASKS, rows().shape[2], max(body.noise_size, 1))
    torch.testing.assert_close(body.features(p, rows(), Step(size, noise)), base)
    for name, view in p.items():
        if name not in plain:
            view.data.add_(0.3 * torch.randn(view.shape))
    assert (body.features(p, rows(), Step(size)) - base).abs().max() > 1e-2


@pytest.mark.parametrize("body", BODIES, ids=IDS)
def test_base_and_adapters_train_together(body: Body) -> None:
    p = _moved(body)
    for task in range(TASKS):
        grad = gradients(body, p, task)
        for name, found in grad.items():
            reached = found.flatten(2).abs().sum(2)[0] > 0
            if len(reached) == TASKS:
                assert reached.tolist() == [task == other for other in range(TASKS)], name
            else:
                assert reached.all(), name


def _change(body: Adapted, p: Named, layer: int = 1, noise: Tensor | None = None) -> Tensor:
    """``ΔW`` of the only member."""
    return body.change(p, layer, Step(SIZE, noise))[0]


def test_the_changes_are_those_of_the_equations() -> None:
    body: Adapted = LoRA(rank=2, scale=3.0)
    p = _moved(body)
    for task in range(TASKS):
        wanted = 3 * p["1.up"][0, task] @ p["1.down"][0, task]
        torch.testing.assert_close(_change(body, p)[task], wanted)

    body = MultiLoRA(adapters_per_layer=2, rank=2)
    p = _moved(body)
    parts = [
        torch.diag(p["1.scale"][0, 0, i]) @ p["1.up"][0, 0, i] @ p["1.down"][0, 0, i]
        for i in range(2)
    ]
    torch.testing.assert_close(_change(body, p)[0], parts[0] + parts[1])

    body = MTLLoRA(ups=2, rank=2, scale=3.0, temperature=0.5)
    p = _moved(body)
    for task in range(TASKS):
        weights = (p["1.mixture"][0, task] / 0.5).softmax(-1)
        up = weights[0] * p["1.up"][0, 0, 0] + weights[1] * p["1.up"][0, 0, 1]
        core = torch.eye(2) + p["1.core"][0, task]
        wanted = 3 * up @ core @ p["1.down"][0, 0]
        torch.testing.assert_close(_change(body, p)[task], wanted)

    body = PTSL(inner=3)
    p = _moved(body)
    for task in range(TASKS):
        wanted = p["up"][0, 0] @ p["1.core"][0, task] @ p["down"][0, 0]
        torch.testing.assert_close(_change(body, p)[task], wanted)


def test_mtlora_has_adapters_of_tasks_in_the_last_layer_which_keeps_the_shared_one() -> None:
    body = MTLoRA(rank=2, own_rank=1, scale=3.0)
    p = _moved(body)
    assert _change(body, p, 0).shape[0] == 1
    shared = 3 * p["1.up"][0, 0] @ p["1.down"][0, 0]
    for task in range(TASKS):
        own = p["1.own.up"][0, task] @ p["1.own.down"][0, task]
        wanted = shared + p["1.own.scale"][0, task] * own
        torch.testing.assert_close(_change(body, p)[task], wanted)


def test_tasks_choose_shared_adapters_with_weights_of_sum_1_drawn_once_a_pass() -> None:
    body = CPoly(shared=3, rank=2)
    p = _moved(body)
    calm = body.chosen(p, Step(SIZE))
    torch.testing.assert_close(calm.sum(-1), torch.ones(1, TASKS))
    noise = torch.rand(1, TASKS, 5, 3, generator=torch.Generator().manual_seed(0))
    drawn = body.chosen(p, Step(SIZE, noise))
    torch.testing.assert_close(drawn.sum(-1), torch.ones(1, TASKS))
    assert (drawn - calm).abs().min() > 0
    logits = 10 * p["choice"] + (noise[:, :, 0] / (1 - noise[:, :, 0])).log()
    gates = logits.sigmoid()
    torch.testing.assert_close(drawn, gates / gates.sum(-1, keepdim=True))
    # All rows of a task see one weight.
    x = rows()[:, :, :1].expand(-1, -1, 5, -1)
    features = body.features(p, x, Step(SIZE, noise))
    torch.testing.assert_close(features, features[:, :, :1].expand_as(features))


def test_the_router_does_not_know_the_task() -> None:
    body = MoLoRA(rank=2, experts=4)
    p = _moved(body)
    x = rows()[:, :1].expand(-1, TASKS, -1, -1)
    features = body.features(p, x, Step(SIZE))
    torch.testing.assert_close(features, features[:, :1].expand_as(features))


def test_even_use_of_experts_has_the_least_balance_loss() -> None:
    body = MoLoRA(rank=1, experts=4, k=1, balance=1.0)
    p = draw(body)
    x = torch.eye(4).expand(1, TASKS, 4, 4).clone()
    # Every row has an expert of its own, then all have the same.
    for scores, wanted in ((9.0 * torch.eye(4), 1.0), (9.0 * torch.eye(4)[:1], 4.0)):
        p["0.router"].data.zero_()
        p["0.router"].data[0, 0, : len(scores)] = scores
        if len(scores) == 1:
            p["0.router"].data[0, 0, 0] = 9.0
        first = body.extra(p, x, Step(Size(4, 6, 1, "relu", TASKS)))
        assert first.item() == pytest.approx(wanted, rel=0.01)


def test_the_loss_that_aligns_is_the_symmetric_divergence_of_gaussians() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(1, 2, 50, 3, generator=generator)
    codes[:, 1] = 2 * codes[:, 1] + 1
    first, second = (
        torch.distributions.Normal(codes[0, task].mean(0), codes[0, task].std(0, correction=0))
        for task in range(2)
    )
    there = torch.distributions.kl_divergence(first, second).sum()
    back = torch.distributions.kl_divergence(second, first).sum()
    assert divergence(codes).item() == pytest.approx(0.5 * (there + back).item(), rel=1e-4)
    assert divergence(codes[:, :1].expand(-1, 2, -1, -1)).item() == pytest.approx(0, abs=1e-5)
    assert divergence(codes[:, :1]).item() == 0


def test_the_loss_that_aligns_brings_codes_together() -> None:
    body = AlignLoRA(rank=2, align=1.0)
    p = _moved(body)
    weights = [p[f"{layer}.down"] for layer in range(SIZE.depth)]
    optimizer = torch.optim.Adam(weights, 0.02)
    found = []
    for _ in range(50):
        loss = body.extra(p, rows(count=64), Step(SIZE)).sum()
        found.append(loss.item())
        optimizer.zero_grad()
        loss.backward(inputs=weights)
        optimizer.step()
    assert found[-1] < 0.5 * found[0]
