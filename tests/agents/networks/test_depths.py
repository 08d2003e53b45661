"""Networks whose tasks take ways of their own through the layers: heads at several depths, and learned branches."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from mtrl.agents import AgentError
from mtrl.agents.networks.bodies.body import Step
from mtrl.agents.networks.bodies.hierarchical import Hierarchical
from mtrl.agents.networks.bodies.ltb import LTB
from mtrl.agents.networks.bodies.mlp import MLP
from mtrl.agents.networks.layers import Size
from mtrl.envs import get_suite
from mtrl.envs.specs import task_depths
from tests.agents.networks.test_mixtures import SIZE, TASKS, draw, gradients, rows

DEEP = replace(SIZE, depth=3, depths=(0, 1, 4))


def test_depths_are_the_longest_chains_of_what_tasks_build_on() -> None:
    def depths(*names: str) -> tuple[int, ...]:
        tasks = {task.name: task for task in get_suite("mt10").tasks}
        return task_depths(names, [tasks[name].builds_on for name in names])

    assert depths("pick-place-v3", "reach-v3", "push-v3") == (2, 0, 1)
    # What is not in the suite does not count.
    assert depths("pick-place-v3", "window-open-v3") == (0, 0)
    assert max(depths(*get_suite("mt10").task_names)) == 3


def test_a_task_trains_the_layers_below_its_head_alone() -> None:
    body = Hierarchical()
    p = draw(body, DEEP)
    for task, layers in enumerate((1, 2, 3)):
        grad = gradients(body, p, task, DEEP)
        reached = [bool(grad[f"{layer}.weight"].any()) for layer in range(3)]
        assert reached == [layer < layers for layer in range(3)]


def test_heads_at_the_last_layer_without_shortcuts_are_the_plain_network() -> None:
    body = Hierarchical(shortcuts=False, layers="2/2/2")
    p = draw(body)
    plain = {name: view for name, view in p.items() if name != "layer"}
    out = body.features(p, rows(), Step(SIZE))
    torch.testing.assert_close(out, MLP().features(plain, rows(), Step(SIZE)))
    unknown = Hierarchical(shortcuts=False)
    assert set(unknown.parameters(SIZE)) == set(plain)
    torch.testing.assert_close(unknown.features(plain, rows(), Step(SIZE)), out)


def test_layers_are_given_for_every_task_and_exist() -> None:
    with pytest.raises(AgentError, match="layers: 1/2 has 2 numbers; there must be one"):
        Hierarchical(layers="1/2").parameters(SIZE)
    with pytest.raises(AgentError, match="layers: 3 is no layer of a network of depth 2"):
        Hierarchical(layers="1/2/3").parameters(SIZE)
    with pytest.raises(AgentError, match="layers: 0/1 names layer 0"):
        Hierarchical(layers="0/1")


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 1.0])
def test_after_the_warmup_a_row_takes_one_path(share: float) -> None:
    body = LTB(copies=3)
    p = draw(body)
    features = body.features(p, rows(), Step(SIZE, share=share))
    for task in range(TASKS):
        loss = features[:, task].square().sum()
        for layer in range(SIZE.depth):
            (grad,) = torch.autograd.grad(loss, p[f"{layer}.weight"], retain_graph=True)
            assert (grad[0, 0].flatten(1).abs().sum(1) > 1e-9).sum() == 1


def test_in_the_warmup_all_copies_have_equal_weights() -> None:
    body = LTB(copies=3)
    p = draw(body)
    weights = body.choose(p["choice"], p["noise"], 0.0)
    torch.testing.assert_close(weights, torch.full((1, TASKS, 3), 1 / 3))


def test_choices_are_drawn_in_the_search_and_learn_until_its_end() -> None:
    body = LTB(copies=4)
    p = draw(body, members=50)
    shares = [0.1, 0.2, 0.3, 0.4]
    drawn = [body.choose(p["choice"], p["noise"], share).argmax(-1) for share in shares]
    assert all((one != other).any() for one, other in pairwise(drawn))
    counts = torch.stack(drawn).flatten().bincount(minlength=4) / (4 * 50 * TASKS)
    assert counts.tolist() == pytest.approx([0.25] * 4, abs=0.07)
    for share, learns in ((0.4, True), (0.5, False)):
        weights = body.choose(p["choice"], p["noise"], share)
        (grad,) = torch.autograd.grad(weights[..., 0].sum(), p["choice"])
        assert bool(grad.any()) == learns


def test_tasks_that_need_the_same_features_end_in_the_same_branch() -> None:
    """Planted: with fixed copies, two tasks want what copy 0 of the last layer gives, one wants the opposite one."""
    size = Size(4, 8, 1, "tanh", TASKS)
    body = LTB(copies=2)
    p = draw(body, size)
    p["0.weight"].data[:, :, 1] = -p["0.weight"].data[:, :, 0]
    x = rows(size, 32)
    step = Step(size)
    first = MLP().features({name: p[name][:, :, 0] for name in ("0.weight", "0.bias")}, x, step)
    sign = torch.tensor([1.0, -1.0, 1.0]).view(1, TASKS, 1, 1)
    target = (sign * first).detach()
    optimizer = torch.optim.Adam([p["choice"]], 0.02)
    for update in range(100):
        out = body.features(p, x, Step(size, share=0.5 * update / 100))
        optimizer.zero_grad()
        (out - target).square().mean().backward(inputs=[p["choice"]])
        optimizer.step()
    tree = body.choose(p["choice"], p["noise"], 1.0).argmax(-1)[0]
    assert tree.tolist() == [0, 1, 0]


def test_a_search_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(AgentError, match=r"warmup: 0\.6 ends after the search"):
        LTB(warmup=0.6)
    with pytest.raises(AgentError, match=r"end: 6\.0 is above the temperature at the start"):
        LTB(end=6.0)
