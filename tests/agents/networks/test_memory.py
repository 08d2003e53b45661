"""Recurrent memory: the cell against PyTorch's, sequences against steps, resets, resume, and who may use it."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mtrl.agents import MTPPO, AgentError
from mtrl.agents.aggregators import parse_aggregator
from mtrl.agents.networks.grid import MINIGRID
from mtrl.agents.networks.memory import Recall, Recurrence
from mtrl.agents.networks.network import Network
from mtrl.agents.networks.parameters import Params
from mtrl.agents.optim.task_gradients import Reduction
from mtrl.agents.state import difference
from mtrl.envs import TaskVectorEnv, make_vec
from tests.agents.ppo import test_agent as test_mtppo
from tests.helpers.networks import grid

TASKS, SEEDS, COUNT, LENGTH = 3, 2, 2, 5
SMALL = {
    "width": 16,
    "channels": 4,
    "depth": 1,
    "rollout_per_task": 80,
    "minibatches": 2,
    "epochs": 2,
    "sequence": 10,
}


def _network(heads: int = TASKS) -> Network:
    return grid(8, 1, 2, heads, memory=True)


def _inputs(seed: int = 0) -> tuple[Tensor, Recall]:
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(SEEDS, TASKS, COUNT * LENGTH, MINIGRID.num_bytes, generator=generator)
    x = (draw * torch.tensor(MINIGRID.sizes())).to(torch.uint8)
    start = torch.rand(SEEDS, TASKS, COUNT * LENGTH, generator=generator) < 0.3
    return x, Recall(torch.randn(SEEDS, TASKS, COUNT, 8, generator=generator), start)


def test_the_cell_is_pytorchs_with_zeros_at_starts() -> None:
    network, (x, recall) = _network(), _inputs()
    views = network.views(network.init(SEEDS, torch.Generator().manual_seed(1)), torch.float32)
    hidden = network.features(views, x, recall)
    forgetful = dataclasses.replace(network, memory=None)
    features = forgetful.features(views, x)
    for seed in range(SEEDS):
        cell = torch.nn.GRUCell(8, 8)
        names = {
            "weight_ih": "input",
            "bias_ih": "input.bias",
            "weight_hh": "state",
            "bias_hh": "state.bias",
        }
        cell.load_state_dict(
            {ours: views.of("memory")[name][seed, 0] for ours, name in names.items()}
        )
        for task in range(TASKS):
            for sequence in range(COUNT):
                state = recall.state[seed, task, sequence][None]
                for row in range(sequence * LENGTH, (sequence + 1) * LENGTH):
                    state = state * ~recall.start[seed, task, row]
                    state = cell(features[seed, task, row][None], state)
                    torch.testing.assert_close(
                        hidden[seed, task, row][None], state, rtol=1e-4, atol=1e-5
                    )


@pytest.mark.parametrize("expanded", [False, True])
def test_gradients_through_time_are_those_of_pytorchs_cell(expanded: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    width, (members, groups) = 4, (2, TASKS)
    gates = torch.randn(
        members, groups, COUNT, LENGTH, 3 * width, generator=generator, requires_grad=True
    )
    state = torch.randn(members, groups, COUNT, width, generator=generator)
    going = (torch.rand(1, groups, COUNT, LENGTH, 1, generator=generator) < 0.7).float()
    weight = torch.randn(members, 1, 3 * width, width, generator=generator)
    bias, scale = (
        torch.randn(members, 1, 3 * width, generator=generator),
        torch.randn(*gates.shape[:4], width),
    )
    whole = (
        [
            p.expand(-1, groups, *p.shape[2:]).detach().requires_grad_(True)
            for p in (weight, bias)
        ]
        if expanded
        else [weight.requires_grad_(), bias.requires_grad_()]
    )
    states = Recurrence.apply(gates, state, going, *whole)
    actual = torch.autograd.grad((states * scale).sum(), [gates, *whole])

    eye, zero = torch.eye(3 * width), torch.zeros(3 * width)
    loss = torch.zeros(())
    for member, task, sequence in itertools.product(
        range(members), range(groups), range(COUNT)
    ):
        w, b = (p[member, task if expanded else 0] for p in whole)
        last = state[member, task, sequence]
        for step in range(LENGTH):
            last = last * going[0, task, sequence, step]
            last = torch.gru_cell(
                gates[member, task, sequence, step][None], last[None], eye, w, zero, b
            )[0]
            torch.testing.assert_close(states[member, task, sequence, step], last)
            loss = loss + (last * scale[member, task, sequence, step]).sum()
    for ours, theirs in zip(actual, torch.autograd.grad(loss, [gates, *whole])):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("heads", [1, TASKS])
def test_task_gradients_equal_separate_backward_passes(heads: int) -> None:
    network, (x, recall) = _network(heads), _inputs()
    flat = network.init(SEEDS, torch.Generator().manual_seed(3))

    def losses(params: Params) -> Tensor:
        return network.forward(params, x, recall).square().mean((-2, -1))

    for aggregator, groups in (("upgrad", TASKS), ("sdmgrad", 2 * TASKS)):
        leaves = Reduction(network, parse_aggregator(aggregator), TASKS).leaves(
            flat, torch.float32
        )
        names = [name for name in network.layout.shared if "head" not in name]
        grads = torch.autograd.grad(
            losses(leaves).sum(), [leaves.named[name] for name in names]
        )
        joint = torch.cat([grad.flatten(2) for grad in grads], -1)
        assert joint.shape[1] == groups
        joint = joint.unflatten(1, (TASKS, -1)).sum(2)
        for task in range(TASKS):
            leaf = flat.clone().requires_grad_()
            alone = torch.autograd.grad(
                losses(network.views(leaf, torch.float32))[:, task].sum(), leaf
            )[0]
            torch.testing.assert_close(
                joint[:, task], alone[:, : joint.shape[-1]], rtol=1e-4, atol=1e-6
            )


def _agent(env: TaskVectorEnv, **settings: object) -> MTPPO:
    return MTPPO(
        env, seed=1, device="cpu", memory="gru", precision="fp32", **(SMALL | settings)
    )


def test_first_ratios_are_one_and_states_are_those_of_collection() -> None:
    """Recomputing a rollout in sequences, from stored states, gives what acting step by step gave."""
    agent = _agent(make_vec("mg3", 4, seed=0))
    agent.advance()
    rollout = agent.collect()
    assert rollout.memory is not None and rollout.start is not None
    assert rollout.start[:, :, 1:].equal(rollout.done[:, :, :-1].bool())
    network = agent.settings.actor
    views = network.views(agent.state["actor"]["params"], torch.float32)
    obs, start, memory = (
        f.transpose(2, 3).flatten(2, 3)
        for f in (rollout.obs, rollout.start, rollout.memory[..., :16])
    )
    hidden = network.features(views, obs, Recall(memory[:, :, ::10], start)).unflatten(
        2, (4, 20)
    )
    torch.testing.assert_close(
        hidden[:, :, :, :-1], memory.unflatten(2, (4, 20))[:, :, :, 1:], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("heads", ["multi-head", "one-hot"])
def test_predict_carries_the_memory_and_forgets_at_starts(heads: str) -> None:
    agent = _agent(make_vec("mg10", 1, seed=0), heads=heads).learn(800)
    env = agent.env
    obs = env.reset(seed=4)[0]
    _, first = agent.predict(obs, deterministic=True)
    _, second = agent.predict(obs, first, np.zeros(10, bool), deterministic=True)
    assert first.shape == second.shape == (10, 16)
    assert not np.allclose(first, second)
    begun = np.arange(10) < 5
    _, mixed = agent.predict(obs, first, begun, deterministic=True)
    np.testing.assert_allclose(mixed[begun], first[begun], atol=1e-6)
    np.testing.assert_allclose(mixed[~begun], second[~begun], atol=1e-6)
    with pytest.raises(
        AgentError,
        match=r"state: shape \(3, 16\) is not \(10, 16\), the memory of 10 observations",
    ):
        agent.predict(obs, first[:3])


def test_continues_exactly_in_the_middle_of_episodes(tmp_path: Path) -> None:
    whole, first = (_agent(make_vec("mg3", 2, seed=0)).learn(480) for _ in range(2))
    env = make_vec("mg3", 2, seed=0)
    env.load_state_dict(first.env.state_dict())
    second = _agent(env)
    second.load_state_dict(first.state_dict())
    for agent in (whole, second):
        agent.learn(1200)
    assert difference(whole, second) is None
    assert whole._memory is not None


def test_where_memory_is_not_offered() -> None:
    with pytest.raises(
        AgentError, match=r"memory: 'gru' is offered on MiniGrid only; use none for mt10:fake"
    ):
        MTPPO(test_mtppo._env(), memory="gru", device="cpu")
    env = make_vec("mg3", 4, seed=0)
    with pytest.raises(AgentError, match="memory: 'gru' is not offered with heads=separate"):
        _agent(env, heads="separate")
    with pytest.raises(AgentError, match="memory: 'lstm' is unknown; use one of gru, none"):
        MTPPO(env, memory="lstm", device="cpu")
    with pytest.raises(
        AgentError,
        match=r"sequence: 15 does not divide the 20 steps of an environment in a rollout",
    ):
        _agent(env, sequence=15)
    with pytest.raises(
        AgentError, match="minibatches: 9 is too large; a rollout has 8 sequences per task"
    ):
        _agent(env, minibatches=9)
