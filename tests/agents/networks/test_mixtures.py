"""What mixtures of experts claim: who trains which expert, that none dies, and what they are without their settings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mtrl.agents import AgentError
from mtrl.agents.networks.bodies.body import Body, Step
from mtrl.agents.networks.bodies.cgc import CGC, PLE
from mtrl.agents.networks.bodies.cross_stitch import CrossStitch
from mtrl.agents.networks.bodies.home import HoME
from mtrl.agents.networks.bodies.m3vit import M3ViT
from mtrl.agents.networks.bodies.mlp import MLP
from mtrl.agents.networks.bodies.mmoe import MMoE, MMoEEx
from mtrl.agents.networks.layers import Named, Size
from mtrl.agents.networks.parameters import Layout

TASKS, ROWS = 3, 5
SIZE = Size(inputs=4, width=6, depth=2, activation="relu", num_tasks=TASKS)


def draw(body: Body, size: Size = SIZE, seed: int = 0, members: int = 1) -> Named:
    """Fresh parameters of a body that gradients can be asked for."""
    layout = Layout(body.parameters(size), size.num_tasks)
    flat = layout.init(members, torch.Generator().manual_seed(seed))
    return layout.leaves(flat, torch.float32).named


def rows(size: Size = SIZE, count: int = ROWS) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    return torch.randn(1, size.num_tasks, count, size.inputs, generator=generator)


def gradients(body: Body, p: Named, task: int, size: Size = SIZE) -> dict[str, Tensor]:
    """Gradients of a loss of one task."""
    features = body.features(p, rows(size), Step(size))
    names = [name for name, view in p.items() if view.requires_grad]
    loss = features[:, task].square().sum()
    found = torch.autograd.grad(loss, [p[name] for name in names], materialize_grads=True)
    return dict(zip(names, found))


@pytest.mark.parametrize(
    "body",
    [
        MMoE(experts=1),
        CGC(shared=1, own=0),
        PLE(shared=1, own=0),
        M3ViT(experts=1, k=1),
        CrossStitch(columns=1),
    ],
)
def test_one_expert_is_the_plain_network(body: Body) -> None:
    p = draw(body)
    plain = draw(MLP())
    # Layers hold the same names in all of them, apart from a prefix and the axis of experts.
    for name in plain:
        layer, _, what = name.partition(".")
        found = [key for key in p if _is_layer(key, layer, what, body)]
        assert len(found) == 1, (name, found)
        p[found[0]].data.copy_(plain[name].data.view_as(p[found[0]]))
    out = body.features(p, rows(), Step(SIZE))
    torch.testing.assert_close(out, MLP().features(plain, rows(), Step(SIZE)))


def _is_layer(key: str, layer: str, what: str, body: Body) -> bool:
    """Whether ``key`` is parameter ``what`` of a hidden layer."""
    if type(body) is CGC:
        return key == f"0.shared.{layer}.{what}"
    if isinstance(body, PLE):
        return key == f"{layer}.shared.0.{what}"
    if isinstance(body, M3ViT):
        return key == f"{layer}.expert.0.{what}"
    return key == f"{layer}.{what}"


@pytest.mark.parametrize("kind", ["exclusive", "excluded"])
def test_an_expert_that_is_not_for_a_task_gets_no_gradient_from_it(kind: Any) -> None:
    body = MMoEEx(experts=6, unique=0.5, uniqueness=kind)
    p = draw(body)
    allowed = p["allowed"][0] > 0.5
    per_expert = allowed.sum(0).tolist()
    few = 1 if kind == "exclusive" else TASKS - 1
    assert per_expert == [few] * 3 + [TASKS] * 3
    for task in range(TASKS):
        grad = gradients(body, p, task)
        reached = grad["1.weight"][0, 0].abs().sum((1, 2)) > 0
        assert torch.equal(reached, allowed[task])
        of_gate = grad["gate.weight"][0, task].abs().sum(1) > 0
        assert torch.equal(of_gate, allowed[task])


def test_unique_experts_are_drawn_from_the_seed_and_one_is_for_all() -> None:
    body = MMoEEx(experts=4, unique=1.0)
    first, again, other = (draw(body, seed=seed)["allowed"] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert (first[0].sum(0) == TASKS).sum() == 1


@pytest.mark.parametrize("body", [CGC(shared=2, own=1), PLE(shared=2, own=1)])
def test_private_experts_are_trained_by_their_task_alone_and_shared_ones_by_all(
    body: CGC,
) -> None:
    p = draw(body)
    for task in range(TASKS):
        grad = gradients(body, p, task)
        for name, found in grad.items():
            reached = found.abs().flatten(2).sum(2)[0] > 0
            if ".own." in name:
                assert reached.tolist() == [task == other for other in range(TASKS)]
            elif ".shared." in name:
                assert reached.tolist() == [True]


def test_all_columns_read_every_tasks_rows() -> None:
    body = CrossStitch(columns=3)
    p = draw(body)
    for task in range(TASKS):
        grad = gradients(body, p, task)
        for layer in range(SIZE.depth):
            assert (grad[f"{layer}.weight"][0, 0].flatten(1).abs().sum(1) > 0).all()
    starts = p["stitch"][0]
    assert starts.max(-1).values.tolist() == pytest.approx([0.9] * TASKS)
    assert starts.sum(-1).tolist() == pytest.approx([1.0] * TASKS)
    # Three tasks begin with three columns.
    assert sorted(starts.argmax(-1).tolist()) == [0, 1, 2]


def test_without_mixing_a_column_is_a_network_of_its_own() -> None:
    body = CrossStitch(columns=TASKS, diagonal=1.0)
    p = draw(body)
    out = body.features(p, rows(), Step(SIZE))
    for task, column in enumerate(p["stitch"][0].argmax(-1).tolist()):
        own = {name: view[:, :, column] for name, view in p.items() if "stitch" not in name}
        plain = MLP().features(own, rows(), Step(SIZE))
        torch.testing.assert_close(out[:, task], plain[:, task])


def test_a_row_uses_k_experts_and_noise_is_in_losses_only() -> None:
    body = M3ViT(experts=5, k=2, sparse=1)
    p = draw(body)
    p["1.gate"].data.normal_(generator=torch.Generator().manual_seed(1))
    for task in range(TASKS):
        grad = gradients(body, p, task)
        assert not grad["1.noise"].any()
    x = rows(count=1)
    grad = torch.autograd.grad(
        body.features(p, x, Step(SIZE))[:, 0].sum(), p["1.expert.0.weight"]
    )
    used = grad[0][0, 0].flatten(1).abs().sum(1) > 0
    assert used.sum() <= 2
    noise = torch.rand(1, TASKS, 1, body.noise_size, generator=torch.Generator().manual_seed(2))
    noisy = body.features(p, x, Step(SIZE, noise))
    assert not torch.allclose(noisy, body.features(p, x, Step(SIZE)))


def _use_after_training(balance: float) -> Tensor:
    """The share of rows that use each expert after a regression of which two experts began with a better start."""
    size = replace(SIZE, depth=1, width=8)
    body = M3ViT(experts=6, k=2, sparse=1, balance=balance)
    p = draw(body, size)
    p["0.gate"].data.zero_()
    p["0.gate"].data[..., 0] = 0.4 * torch.tensor([1.0, 1.0, -1.0, -1.0, -1.0, -1.0])
    x = rows(size, 128)
    x[..., 0] = 1.0
    target = torch.stack([x[0, task].roll(task, -1).square().sum(-1) for task in range(TASKS)])
    weights = [view for view in p.values() if view.requires_grad]
    optimizer = torch.optim.Adam(weights, 0.02)
    generator = torch.Generator().manual_seed(3)
    for _ in range(100):
        noise = torch.rand(1, TASKS, 128, body.noise_size, generator=generator)
        step = Step(size, noise)
        loss = (body.features(p, x, step).sum(-1) - target).square().mean()
        optimizer.zero_grad()
        (loss + body.extra(p, x, step).sum()).backward()
        optimizer.step()
    _, picks = body._run(p, x, Step(size))
    return (picks[0][0][0] > 0).float().mean((0, 1))


def test_no_expert_dies_with_the_balance_loss_and_some_do_without() -> None:
    assert (_use_after_training(balance=0.0) < 0.01).any()
    assert (_use_after_training(balance=0.1) > 0.1).all()


def test_more_experts_a_row_than_there_are_is_refused() -> None:
    with pytest.raises(AgentError, match="k: 3 is more than the 2 experts there are"):
        M3ViT(experts=2, k=3)


def test_experts_of_a_group_are_trained_by_its_tasks_alone() -> None:
    body = HoME(groups="0/1/0", rank=2)
    p = draw(body)
    for task in range(TASKS):
        grad = gradients(body, p, task)
        for level in range(SIZE.depth):
            reached = grad[f"{level}.common.0.weight"][0, 0].flatten(1).abs().sum(1) > 0
            assert reached.tolist() == [True, task != 1, task == 1]


def test_a_tasks_own_expert_learns_whatever_its_gate_says() -> None:
    """The self gate lets a gradient through where the gate has closed."""
    body = HoME(rank=2)
    p = draw(body)
    p["1.gate"].data[..., 0] = 0.0
    closed = rows().clone()
    with torch.no_grad():
        p["1.gate"].data[:, :, -1] = -1e4
    grad = torch.autograd.grad(
        body.features(p, closed, Step(SIZE)).square().sum(), p["1.own.0.weight"]
    )
    assert (grad[0].flatten(2).abs().sum(2) > 0).all()


def test_groups_come_from_the_graph_of_skills_or_are_given_for_every_task() -> None:
    deep = replace(SIZE, depths=(0, 2, 0))
    allowed = draw(HoME(), deep)["allowed"][0]
    assert allowed.tolist() == [[1, 1, 0], [1, 0, 1], [1, 1, 0]]
    with pytest.raises(AgentError, match="groups: 0/1 has 2 numbers; there must be one"):
        HoME(groups="0/1").parameters(SIZE)
    with pytest.raises(AgentError, match="groups: 'a/1' is no list of whole numbers"):
        HoME(groups="a/1")
