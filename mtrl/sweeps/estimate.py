"""The plan of a sweep, and how long it may take."""

from __future__ import annotations

import dataclasses
import time

import torch

import envs
from mtrl.config import TrainConfig, agent_class
from mtrl.sweeps.progress import describe
from mtrl.sweeps.spec import Spec
from mtrl.sweeps.state import measured_rate, state_of

CALIBRATION_S = 10.0


def plan(spec: Spec, jobs: int) -> str:
    """Every run with where it stands and the hours it has left, then the total on ``jobs`` jobs.

    Speed is that of finished runs of the same suite and method among the results, which includes their evaluations,
    else that of a short calibration here and now, which does not.
    """
    states = {unit.name: state_of(unit) for unit in spec.units}
    open_rows = {unit.row: unit.config for unit in spec.units if not states[unit.name].over}
    rates: dict[tuple[str, str], tuple[float, str]] = {}
    for row, config in open_rows.items():
        measured = measured_rate(spec, row)
        rates[row] = (calibrate(config), "calibrated") if measured is None else (measured, "measured")
    lines, total = [], 0.0
    for unit in spec.units:
        state = states[unit.name]
        if state.over:
            lines.append(f"{unit.name}: {describe(state)}")
            continue
        rate, source = rates[unit.row]
        left = max(unit.config.total_env_steps - state.env_steps, 0)
        total += left / rate / 3600
        begun = f"continues from {state.env_steps:,}" if state.env_steps else "starts"
        lines.append(
            f"{unit.name}: {begun}, {left:,} env steps left, {left / rate / 3600:.2f} h at {rate:,.0f}/s ({source})"
        )
    over = sum(state.over for state in states.values())
    lines.append(
        f"{len(spec.units)} runs, {over} over; about {total:.1f} hours of work, "
        f"{total / jobs:.1f} h with {jobs} job{'s' * (jobs != 1)} if they do not slow each other down"
    )
    lines.append("measured: from finished runs in the results folder; calibrated: a few seconds here, no evaluations")
    return "\n".join(lines)


def calibrate(config: TrainConfig) -> float:
    """Env steps per second of training for a few seconds in this process, the first piece and its warm-up apart.

    An agent that begins with random actions updates from the start here, since that is how most of a run goes.
    """
    if config.torch_threads:
        torch.set_num_threads(config.torch_threads)
    env = envs.make_vec(
        config.suite, config.envs_per_task, backend=config.backend, seed=config.seed, goal_seed=config.benchmark_seed
    )
    settings = config.agent
    if any(field.name == "learning_starts" for field in dataclasses.fields(settings)):
        settings = dataclasses.replace(settings, learning_starts=1)  # type: ignore[call-arg]
    try:
        agent = agent_class(config.algorithm)(env, settings, seed=config.seed, device=config.device)
        agent.advance()
        begun, steps = time.monotonic(), agent.env_steps
        while time.monotonic() - begun < CALIBRATION_S:
            agent.advance()
        return (agent.env_steps - steps) / (time.monotonic() - begun)
    finally:
        env.close()
