"""Agents and batches to measure with, without a simulation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from mtrl.agents import MTSAC, EnvSpec
from mtrl.agents.data.replay import Batch
from mtrl.agents.data.rollout import Rollout
from mtrl.agents.optim.graphs import record_on_gpu
from mtrl.agents.sac.update import SACInputs
from mtrl.agents.seeds import Stack
from mtrl.agents.state import stack

TASKS, OBS, ACTIONS = 10, 39, 4
MT10 = EnvSpec(
    "mt10", tuple(f"task-{i}" for i in range(TASKS)), OBS, (-1.0,) * ACTIONS, (1.0,) * ACTIONS
)


def random_batch(device: torch.device, batch: int, seed: int = 0) -> Batch:
    """A batch of ``batch`` transitions in all, as replay gives it; drawn on the CPU, so equal on every device."""
    generator = torch.Generator().manual_seed(seed)
    rows = batch // TASKS

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(1, TASKS, rows, *shape, generator=generator).to(device)

    return Batch(draw(OBS), draw(ACTIONS), draw(), torch.zeros_like(draw()), draw(OBS))


def random_rollout(device: torch.device, steps: int, envs: int) -> Rollout:
    """A rollout of random numbers, drawn on the CPU, so equal on every device."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(1, TASKS, steps, envs, *shape, generator=generator).to(device)

    rewards = draw()
    return Rollout(
        draw(OBS),
        draw(OBS),
        draw(ACTIONS),
        rewards,
        torch.zeros_like(rewards),
        (draw() > 1).float(),
    )


def sac_call(
    device: torch.device, seeds: int, batch: int, way: str = "eager", **settings: Any
) -> Callable[[], Any]:
    """One update of ``seeds`` stacked agents.

    Args:
        way: ``eager``, ``graph`` or ``compile``.
    """
    agents = [
        MTSAC(MT10, seed=seed, device=device, graph="off", **settings) for seed in range(seeds)
    ]
    first = agents[0]
    data = random_batch(device, batch)
    inputs = [agent.update_inputs(data) for agent in agents]
    joint = inputs[0]
    state = first.state
    if seeds > 1:
        state = Stack([agent.state for agent in agents]).state
        noise, batches = (
            stack([one.noise for one in inputs]),
            stack([one.batch for one in inputs]),
        )
        joint = SACInputs(batches, noise, joint.settings, joint.progress, None)
    if way == "graph":
        first.record(record_on_gpu)
    run = first.run_update
    if way == "compile":
        run = torch.compile(run)
    return lambda: run(state, joint)
