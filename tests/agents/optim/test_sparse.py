"""Sparse training: which weights move, through the updates of both agents."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from mtrl.agents.aggregators import parse_aggregator, sparse_mask
from mtrl.agents.networks.bodies.body import Body
from mtrl.agents.networks.bodies.film import FiLM
from mtrl.agents.networks.bodies.moore import MOORE
from mtrl.agents.networks.encoder import Identity
from mtrl.agents.networks.network import Network
from mtrl.agents.optim.task_gradients import Reduction
from tests.agents.ppo import test_update as ppo
from tests.agents.sac import test_update as sac
from tests.helpers.networks import mlp, network

KEEP = 2
METHODS = ["mean", "pcgrad", "dwa", "graddrop", "cagrad:flat_minima=0.05"]


def check_what_moved(network: Network, before: Tensor, after: Tensor) -> None:
    """Of every neuron of the trunk exactly the two largest initial input weights moved, and all biases."""
    old = network.views(before.flatten(0, -2), torch.float32).named
    new = network.views(after.flatten(0, -2), torch.float32).named
    for name in network.layout.shared:
        moved = old[name] != new[name]
        if name.endswith("weight"):
            named = sparse_mask(old[name], KEEP)
            assert not (moved & ~named).any(), name
            assert moved.sum() > 0.8 * named.sum(), name
        else:
            assert moved.float().mean() > 0.5, name
    assert (old["head.weight"] != new["head.weight"]).float().mean() > 0.8


@pytest.mark.parametrize("aggregator", METHODS)
def test_ppo_trains_the_named_weights_only(aggregator: str) -> None:
    # PPO's actor loss changes sign, so rules with a logarithm are for the critic.
    for_actor = "mean" if aggregator == "dwa" else aggregator
    separator = "," if ":" in aggregator else ":"
    settings = ppo._settings()
    settings = dataclasses.replace(
        settings,
        actor_tasks=_reduction(settings.actor, for_actor + separator + f"sparse={KEEP}"),
        critic_tasks=_reduction(settings.critic, aggregator + separator + f"sparse={KEEP}"),
    )
    state = ppo._init(settings, [0, 1])
    before = {name: state[name]["params"].clone() for name in ("actor", "critic")}
    epochs = ppo._epochs(0, 2, settings)
    joint = [[ppo._stacked((draw, draw)) for draw in draws] for draws in epochs]
    rollouts = [ppo._rollout(seed) for seed in range(2)]
    rollout = type(rollouts[0])._make(
        None if parts[0] is None else torch.cat(parts) for parts in zip(*rollouts)
    )
    ppo.ppo_update(state, rollout, joint, 1e-2, settings)
    check_what_moved(settings.actor, before["actor"], state["actor"]["params"])
    check_what_moved(settings.critic, before["critic"], state["critic"]["params"])


def test_sac_trains_the_named_weights_of_both_twins_only() -> None:
    settings = sac._settings(aggregator=f"pcgrad:sparse={KEEP}")
    state = sac._init(settings, [0])
    before = {name: state[name]["params"].clone() for name in ("actor", "critic")}
    for step in range(3):
        batch, noise = sac._draws(step)
        sac.sac_update(state, batch, noise, settings)
    check_what_moved(settings.actor, before["actor"], state["actor"]["params"])
    check_what_moved(settings.critic, before["critic"], state["critic"]["params"])


def test_masked_gradients_take_no_part_in_the_gramian() -> None:
    """Two tasks whose gradients conflict in a masked weight alone do not conflict: PCGrad is the mean."""
    network = mlp(in_dim=2, width=1, depth=1, out_dim=1, num_heads=2)
    flat = network.init(1, torch.Generator().manual_seed(0))
    views = network.views(flat, torch.float32).named
    # The neuron reads (1, 2) with weights (5, 1): only the first of them is named by keep=1.
    views["body.0.weight"].copy_(torch.tensor([[[5.0, 1.0]]]))
    views["head.weight"].copy_(torch.tensor([1.0, -1.0]).view(1, 2, 1, 1))
    views["body.0.bias"].fill_(0.0)
    x = torch.tensor([[[[1.0, 2.0]], [[-1.0, 8.0]]]])
    found = {}
    for text in ("mean:sparse=1", "pcgrad:sparse=1", "pcgrad"):
        reduction = _reduction(network, text, tasks=2)
        leaves = reduction.leaves(flat, torch.float32)
        # Outputs 7 and −3; the trunk's gradients are (1, 2) with bias 1 and (1, −8) with bias −1.
        losses = network.forward(leaves, x).sum((-2, -1))
        shape = reduction.noise_shape()
        noise = None if shape is None else torch.full((1, *shape), 0.5)
        state = reduction.init(1, flat.device, flat)
        grad, state, _ = reduction.gradient(losses, leaves, state, noise, step=0, again=_never)
        found[text] = grad[0, :3]
        assert ("mask" in state) == ("sparse" in text)
    # Masked rows are (1, 0, 1) and (1, 0, −1): their product is 0.
    assert found["mean:sparse=1"].tolist() == [1.0, 0.0, 0.0]
    assert found["pcgrad:sparse=1"].tolist() == [1.0, 0.0, 0.0]
    assert found["pcgrad"].tolist() != [1.0, -3.0, 0.0]


@pytest.mark.parametrize("body", [FiLM(), MOORE(experts=3)])
def test_masks_are_of_input_weights_whatever_the_body(body: Body) -> None:
    """Of weights drawn at random two a neuron train, recurrent ones too; biases and what starts at zero all do."""
    net = network(Identity(5), 6, 2, 2, num_heads=3, body=body, memory=True)
    flat = net.init(2, torch.Generator().manual_seed(0))
    mask = _reduction(net, f"mean:sparse={KEEP}").init(2, flat.device, flat)["mask"]
    assert mask.shape == (2, net.layout.num_shared)
    for name in net.layout.shared:
        count = mask[:, net.layout.places[name]].sum(1)
        shape = net.layout.all[name].shape
        views = net.views(flat, torch.float32).named[name]
        is_masked = len(shape) > 1 and bool((views != 0).any())
        expected = math.prod(shape[:-1]) * KEEP if is_masked else math.prod(shape)
        assert count.tolist() == [expected] * 2, name


def _reduction(network: Network, text: str, tasks: int = ppo.TASKS) -> Reduction:
    return Reduction(network, parse_aggregator(text), tasks)


def _never(params: object) -> Tensor:
    raise AssertionError("the losses were computed twice")
