"""MTPPO on mt10 end to end: env steps a second with many environments, acting on the CPU or on the device."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch

from mtrl.agents import MTPPO
from mtrl.envs import make_vec
from scripts.gpu.report import Section
from scripts.gpu.timing import memory, wait

ENVS = (64, 128, 256, 512)
STEPS = 32  # vector steps of a rollout


def engine(section: Section, device: torch.device) -> None:
    """Seconds until mt10 has taken its first step, in which the engine may be compiled, and until a second one has."""
    for key in ("seconds to the first step", "seconds to the first step again"):
        section.attempt(key, _start)


def _start() -> float:
    begun = time.perf_counter()
    env = make_vec("mt10", seed=0)
    env.reset()
    env.step(env.action_space.sample())
    env.close()
    return time.perf_counter() - begun


def ppo(section: Section, device: torch.device) -> None:
    """One rollout with its update to warm up, then as many as fit."""
    cpu = torch.device("cpu")
    cells = [(envs, cpu, "auto") for envs in ENVS]
    if device.type != "cpu":
        eager = [(ENVS[0], device, "off")]
        cells = eager + [(envs, where, "auto") for envs in ENVS for where in (device, cpu)]
    for index, (envs, where, graph) in enumerate(cells):
        seconds = section.left / (len(cells) - index)
        key = f"envs 10 x {envs} acting on {where.type} graph {graph}"
        # Twice as many environments may take twice as long, once to warm up and once to measure.
        if seconds < 4 * _last(section):
            section.note(key, {"skipped": f"{seconds:.0f} s are left for it"})
            continue
        section.attempt(key, partial(_measure, device, where, envs, graph, 0.5 * seconds))


def _last(section: Section) -> float:
    """Seconds of a rollout with its update at the number of environments before."""
    found = [entry for entry in section.figures.values() if isinstance(entry, dict)]
    spans = [entry["rollout_seconds"] for entry in found if "rollout_seconds" in entry]
    return spans[-1] if spans else 0.0


def _measure(
    device: torch.device, where: torch.device, envs: int, graph: str, seconds: float
) -> dict[str, Any]:
    env = make_vec("mt10", envs, seed=0)
    try:
        agent: Any = MTPPO(
            env,
            seed=0,
            device=device,
            graph=graph,
            rollout_per_task=STEPS * envs,
            schedule="constant",
        )
        agent.act_on(where)
        agent.advance()
        collecting, updating, rollouts = 0.0, 0.0, 0
        begun = time.perf_counter()
        while rollouts == 0 or time.perf_counter() - begun < seconds:
            start = time.perf_counter()
            rollout = agent.collect()
            wait(device)
            middle = time.perf_counter()
            agent.update(rollout)
            wait(device)
            collecting += middle - start
            updating += time.perf_counter() - middle
            rollouts += 1
    finally:
        env.close()
    steps = rollouts * STEPS * envs * 10
    whole = collecting + updating
    return {
        "env_steps_per_second": steps / whole,
        "collecting_share": collecting / whole,
        "collecting_env_steps_per_second": steps / collecting,
        "rollout_seconds": whole / rollouts,
        "rollouts": rollouts,
    } | memory(device)
