"""The plan of a sweep, and how long it may take."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from mtrl import envs
from mtrl.agents.agent import resolve_device
from mtrl.envs import TaskVectorEnv
from mtrl.settings.algorithms import agent_class
from mtrl.settings.config import TrainConfig
from mtrl.sweeps.groups import Group, groups_of
from mtrl.sweeps.progress import describe
from mtrl.sweeps.spec import Spec, Unit
from mtrl.sweeps.state import State, measured_rate, state_of
from mtrl.training.torch_settings import torch_settings

CALIBRATION_S = 4.0  # of training, for each suite and method
ALL_S = 30.0  # for all of them
HOW = (
    "measured: from finished runs in the results folder; calibrated: seconds of training here, in short pieces and "
    "without evaluations"
)


class Speed(NamedTuple):
    """Env steps per second of a run that has a process to itself, and where the number comes from."""

    rate: float
    source: str


def plan(spec: Spec, jobs: int) -> str:
    """Every run with where it stands and the hours it has left, then the total on ``jobs`` jobs.

    Finished runs of the same row among the results give the speed, evaluations included. Where there are none, a short
    training here gives it, without evaluations.
    """
    states = {unit.name: state_of(unit) for unit in spec.units}
    speeds = _speeds({unit.row: unit for unit in spec.units if not states[unit.name].over})
    lines, hours = [], []
    for group in groups_of(spec):
        together = len(group.units) > 1
        lines += [f"{group.name}, in one process:"] if together else []
        own, left = _lines(group, states, speeds)
        lines += ["  " * together + line for line in own]
        hours.append(left)
    over = sum(state.over for state in states.values())
    least = max(sum(hours) / jobs, *hours, 0.0)
    lines.append(
        f"{len(spec.units)} runs, {over} over; about {sum(hours):.1f} hours of work, "
        f"{least:.1f} h with {jobs} job{'s' * (jobs != 1)} if they do not slow each other down"
    )
    return "\n".join([*lines, HOW])


def _lines(
    group: Group, states: Mapping[str, State], speeds: Mapping[tuple[str, str], Speed]
) -> tuple[list[str], float]:
    """A line for every run of a group, and the hours it has left, one run after the other."""
    lines, hours = [], 0.0
    for unit in group.units:
        state = states[unit.name]
        if state.over:
            lines.append(f"{unit.name}: {describe(state)}")
            continue
        speed = speeds[unit.row]
        left = max(unit.config.total_env_steps - state.env_steps, 0)
        hours += left / speed.rate / 3600
        begun = f"continues from {state.env_steps:,}" if state.env_steps else "starts"
        lines.append(
            f"{unit.name}: {begun}, {left:,} env steps left, {left / speed.rate / 3600:.2f} h "
            f"at {speed.rate:,.0f}/s ({speed.source})"
        )
    return lines, hours


def _speeds(rows: Mapping[tuple[str, str], Unit]) -> dict[tuple[str, str], Speed]:
    """Measure or look up the speed of each pair of suite and method in ``rows``, which maps it to one of its runs."""
    rates = {row: measured_rate(unit) for row, unit in rows.items()}
    speeds = {row: Speed(rate, "measured") for row, rate in rates.items() if rate is not None}
    unknown = {row: unit.config for row, unit in rows.items() if row not in speeds}
    limit = min(CALIBRATION_S, ALL_S / max(len(unknown), 1))
    calibrations = Calibrations()
    try:
        for row, config in unknown.items():
            print(f"calibrating {' '.join(row)}", file=sys.stderr, flush=True)
            speeds[row] = calibrations.run(config, limit)
    finally:
        calibrations.close()
    return speeds


class Calibrations:
    """Short trainings in this process, one after the other; successive ones share an environment if they can."""

    def __init__(self) -> None:
        self._env: TaskVectorEnv | None = None
        self._made: dict[str, Any] = {}

    def run(self, config: TrainConfig, limit_s: float) -> Speed:
        """Speed of ``config`` in ``limit_s`` seconds of training, or in its first piece if that takes longer.

        Args:
            limit_s: no piece begins later. The first piece warms up and does not count if others follow.
        """
        device = resolve_device(config.device)
        with torch_settings(device, config.torch_threads):
            return self._measure(config, device, limit_s)

    def _measure(self, config: TrainConfig, device: torch.device, limit_s: float) -> Speed:
        settings = config.agent.brief(config.envs_per_task)
        agent = agent_class(config.algorithm)(
            self._environment(config), settings, seed=config.seed, device=device
        )
        begun, steps = time.monotonic(), 0
        agent.advance()
        now, end = time.monotonic(), begun + limit_s
        if now < end:
            begun, steps = now, agent.env_steps
        while (now := time.monotonic()) < end or agent.env_steps == steps:
            agent.advance()
        taken = agent.env_steps - steps
        return Speed(taken / (now - begun), f"calibrated on {taken:,} env steps")

    def close(self) -> None:
        """Close the environment."""
        if self._env is not None:
            self._env.close()

    def _environment(self, config: TrainConfig) -> TaskVectorEnv:
        names = (
            "suite",
            "envs_per_task",
            "backend",
            "seed",
            "benchmark_seed",
            "num_workers",
            "num_threads",
        )
        wanted = {name: getattr(config, name) for name in names}
        if self._env is None or wanted != self._made:
            self.close()
            given = {
                name: wanted[name] for name in ("backend", "seed", "num_workers", "num_threads")
            }
            self._made = wanted
            self._env = envs.make_vec(
                config.suite, config.envs_per_task, goal_seed=config.benchmark_seed, **given
            )
        return self._env
