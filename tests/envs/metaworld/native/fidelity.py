"""Compares the engine with stock Meta-World, step by step.

python -m tests.envs.metaworld.native.fidelity push-v3 pick-place-v3 --steps 500 --goals 3 --resets 3
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from metaworld.policies import ENV_POLICY_MAP
from numpy.typing import NDArray

from mtrl.envs.metaworld.native import layout as at
from mtrl.envs.metaworld.native.models import stripped_model
from mtrl.envs.metaworld.native.simulation import Simulation
from mtrl.envs.metaworld.native.stock import make_stock, snapshot, stock_reset, task_bounds
from mtrl.envs.metaworld.native.tasks import TASKS

POLICIES = ("scripted", "random")
REWARDS = (
    "reward",
    "unscaled_reward",
    "near_object",
    "grasp_reward",
    "in_place_reward",
    "obj_to_target",
)
INFO = (
    "success",
    "near_object",
    "grasp_success",
    "grasp_reward",
    "in_place_reward",
    "obj_to_target",
)


@dataclass
class Differences:
    """Largest absolute differences over all steps; infinite where one side is NaN and the other is not."""

    steps: int = 0
    successes: int = 0
    largest: dict[str, float] = field(default_factory=dict)

    def note(self, name: str, ours: Any, stock: Any) -> None:
        ours, stock = np.asarray(ours, np.float64), np.asarray(stock, np.float64)
        same = (ours == stock) | (np.isnan(ours) & np.isnan(stock))
        gap = np.where(same, 0.0, np.nan_to_num(np.abs(ours - stock), nan=np.inf))
        self.largest[name] = max(self.largest.get(name, 0.0), float(gap.max()))

    @property
    def exact(self) -> bool:
        """Physics and flags equal, everything computed from them within 1e-12.

        Wide enough for the last bit of exp or a dot product, far too narrow for a float32 in the wrong place.
        """
        computed = {"obs", *REWARDS}
        return all(
            gap <= (1e-12 if name in computed else 0.0) for name, gap in self.largest.items()
        )

    def __str__(self) -> str:
        return "  ".join(
            f"{name} {gap:.1e}" if gap else f"{name} =" for name, gap in self.largest.items()
        )


@cache
def simulation(name: str) -> tuple[Simulation, Any]:
    task, env = TASKS[name], make_stock(name)
    stock_reset(env, goals(name, 1)[0])
    return Simulation(
        task, stripped_model(env.fullpath, env.model, task), task_bounds(task, env)
    ), env


@cache
def goals(name: str, count: int, seed: int = 0) -> tuple[tuple[float, ...], ...]:
    """Goals as the benchmark draws them: uniform in the task's reset space, too close ones drawn again by reset."""
    env = make_stock(name)
    env._freeze_rand_vec = False
    env.seeded_rand_vec = True
    env.seed(seed)
    drawn = []
    for _ in range(count):
        env.reset()
        drawn.append(tuple(env._last_rand_vec.tolist()))
    return tuple(drawn)


def make_policy(
    name: str, kind: str, rng: np.random.Generator
) -> Callable[[NDArray], NDArray[np.float32]]:
    """``random``: uniform beyond the action space's limits. ``scripted``: stock's expert with some noise."""
    if kind == "random":
        return lambda obs: rng.uniform(-1.2, 1.2, 4).astype(np.float32)
    expert = ENV_POLICY_MAP[name]()
    # Some experts write into the observation they are given.
    return lambda obs: (expert.get_action(obs.copy()) + rng.normal(0, 0.1, 4)).astype(
        np.float32
    )


def check(
    name: str, kind: str, num_goals: int = 3, steps: int = 500, resets: int = 3, seed: int = 0
) -> Differences:
    """Step the engine and one stock environment side by side.

    The stock environment goes through ``resets`` episodes per goal, the goals alternating, so that anything a reset
    left over from the episode before would show as a difference.
    """
    sim, env = simulation(name)
    task, found, rng = TASKS[name], Differences(), np.random.default_rng(seed)
    fresh = {
        goal: snapshot(task, env, stock_reset(env, goal)) for goal in goals(name, num_goals)
    }
    for goal in list(fresh) * resets:
        policy = make_policy(name, kind, rng)
        before = fresh[goal]
        now = snapshot(task, env, stock_reset(env, goal))
        found.note("reset", np.concatenate([before.state, before.init, before.obs]),
                   np.concatenate([now.state, now.init, now.obs]))  # fmt: skip
        pristine = sim.model.body_pos.copy()
        if task.fixture is not None:
            pristine[sim.model.body(task.fixture).id] = before.init[at.FIXTURE :]
        found.note("body_pos", pristine, env.model.body_pos)
        state, init, stock_obs = before.state[None].copy(), before.init[None].copy(), before.obs
        obs, out = np.empty((1, at.OBS_SIZE)), np.empty((1, at.OUT_SIZE))
        solved = False
        for _ in range(steps):
            action = policy(stock_obs)
            sim.step(state, init, action[None], obs, out)
            stock_obs, reward, _, _, info = env.step(action)
            settled = state[0].copy()
            sim.settle(settled, init[0])
            note_step(found, env, settled, obs[0], out[0], stock_obs, reward, info)
            solved |= bool(info["success"])
        found.successes += solved
    return found


def note_step(
    found: Differences,
    env: Any,
    state: NDArray,
    obs: NDArray,
    out: NDArray,
    stock_obs: NDArray,
    reward: float,
    info: Any,
) -> None:
    found.steps += 1
    found.note("qpos", state[at.QPOS : at.QPOS + env.model.nq], env.data.qpos)
    found.note("qvel", state[at.QVEL : at.QVEL + env.model.nv], env.data.qvel)
    found.note(
        "warmstart", state[at.WARMSTART : at.WARMSTART + env.model.nv], env.data.qacc_warmstart
    )
    found.note("obs", obs, stock_obs)
    found.note("reward", out[at.REWARD], reward)
    found.note("unscaled_reward", out[at.REWARD], info["unscaled_reward"])
    for place, key in enumerate(INFO, at.SUCCESS):
        found.note(key, out[place], info[key])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "tasks", nargs="*", default=sorted(TASKS), help="default: all implemented"
    )
    parser.add_argument("--goals", type=int, default=3)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--resets", type=int, default=3)
    options = parser.parse_args()
    for name in options.tasks or sorted(TASKS):
        for kind in POLICIES:
            begun = time.perf_counter()
            found = check(name, kind, options.goals, options.steps, options.resets)
            print(
                f"{'ok  ' if found.exact else 'FAIL'} {name} {kind}: {found.steps} steps, {found.successes} of "
                f"{options.goals * options.resets} episodes solved, {time.perf_counter() - begun:.0f} s\n     {found}",
                flush=True,
            )


if __name__ == "__main__":
    main()
