"""The whole native backend beside the stock one: every number of every step, and the scripted policies' successes.

python -m tests.envs.metaworld.native.sweep --json results/fidelity_native.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from metaworld.policies import ENV_POLICY_MAP
from numpy.typing import NDArray

from mtrl.envs import make_vec
from mtrl.envs.metaworld.arrays import INFO_KEYS
from mtrl.envs.metaworld.native import layout as at
from mtrl.envs.metaworld.simulators import build, start
from mtrl.envs.metaworld.suites import MT50

POLICIES = ("scripted", "random")
HORIZON = 500


def policy(
    name: str, kind: str, num_envs: int, seed: int
) -> Callable[[NDArray], NDArray[np.float32]]:
    """Actions ``[num_envs, 4]`` of observations: stock's expert with noise, or uniform beyond the space's limits."""
    rng = np.random.default_rng(seed)
    if kind == "random":
        return lambda obs: rng.uniform(-1.2, 1.2, (num_envs, 4)).astype(np.float32)
    experts = [ENV_POLICY_MAP[name]() for _ in range(num_envs)]

    def act(obs: NDArray) -> NDArray[np.float32]:
        rows = obs.astype(np.float64)  # a copy: some experts write into it
        actions = np.array([expert.get_action(row) for expert, row in zip(experts, rows)])
        return (actions + rng.normal(0, 0.1, actions.shape)).astype(np.float32)

    return act


def gap(ours: Any, stock: Any) -> float:
    """Largest absolute difference; infinite where one is NaN and the other is not."""
    ours, stock = np.asarray(ours, np.float64), np.asarray(stock, np.float64)
    same = (ours == stock) | (np.isnan(ours) & np.isnan(stock))
    return float(
        np.where(same, 0.0, np.nan_to_num(np.abs(ours - stock), nan=np.inf)).max(initial=0.0)
    )


def compare(
    name: str, kind: str, num_goals: int = 3, steps: int = 3 * HORIZON, seed: int = 0
) -> dict[str, float]:
    """Largest difference of each quantity between backends with equal arguments and actions, episode ends included."""
    settings = {
        "suite": f"mt1:{name}",
        "envs_per_task": num_goals,
        "seed": seed,
        "goals": "cycle",
    }
    native, stock = (
        make_vec(**settings, backend="native"),
        make_vec(**settings, backend="stock", num_workers=0),
    )
    act = policy(name, kind, num_goals, seed)
    obs, _ = native.reset()
    gaps = {"first_obs": gap(obs, stock.reset()[0])}
    for _ in range(steps):
        actions = act(obs)
        ours, theirs = native.step(actions), stock.step(actions)
        obs = ours[0]
        pairs = dict(zip(("obs", "reward", "terminated", "truncated"), zip(ours, theirs)))
        pairs |= {
            key: (ours[4][key], theirs[4][key])
            for key in (*INFO_KEYS, "final_obs", "_final_obs")
        }
        pairs["qpos"] = tuple(zip(*_positions(native, stock)))
        pairs["goal_index"] = native.goal_index, stock.goal_index
        for key, (left, right) in pairs.items():
            gaps[key] = max(gaps.get(key, 0.0), gap(left, right))
    native.close(), stock.close()
    return gaps


def _positions(native: Any, stock: Any) -> list[tuple[NDArray, NDArray]]:
    engines = [env.data.qpos.copy() for env in stock._group._envs]
    return [
        (row[at.QPOS : at.QPOS + qpos.size], qpos) for row, qpos in zip(native._state, engines)
    ]


def is_exact(gaps: dict[str, float]) -> bool:
    """Everything equal, what is computed with exp or dot products to 1e-12 (a float32 out of place shows at 1e-8)."""
    computed = {
        "reward",
        "unscaled_reward",
        "near_object",
        "grasp_reward",
        "in_place_reward",
        "obj_to_target",
    }
    return all(value <= (1e-12 if key in computed else 0.0) for key, value in gaps.items())


def first_successes(name: str, seed: int = 0) -> tuple[list[int], list[int]]:
    """For each of the 50 goals the first step at which the scripted policy succeeds, native and stock; -1 for never."""
    env = make_vec(f"mt1:{name}", 50, seed=seed, goals="cycle", backend="native")
    experts = [ENV_POLICY_MAP[name]() for _ in range(50)]
    native = np.full(50, -1)
    obs, _ = env.reset()
    for step in range(HORIZON):
        actions = np.zeros((50, 4), np.float32)
        for goal in np.flatnonzero(native < 0):
            actions[goal] = experts[goal].get_action(obs[goal].astype(np.float64))
        obs, _, _, _, info = env.step(actions)
        native[(native < 0) & info["success"]] = step
        if (native >= 0).all():
            break
    one = build(name, "v2")
    stock = [_first_success(one, ENV_POLICY_MAP[name](), goal) for goal in env.goals[0]]
    env.close()
    return native.tolist(), stock


def _first_success(env: Any, expert: Any, goal: NDArray) -> int:
    obs = start(env, goal)
    for step in range(HORIZON):
        obs, _, _, _, info = env.step(
            expert.get_action(obs.astype(np.float32).astype(np.float64)).astype(np.float32)
        )
        if info["success"]:
            return step
    return -1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", default=MT50)
    parser.add_argument("--json", type=Path, help="write the table here, task by task")
    options = parser.parse_args()
    table: dict[str, Any] = {}
    if options.json and options.json.exists():
        table = json.loads(options.json.read_text())
    for name in options.tasks or MT50:
        row: dict[str, Any] = {kind: compare(name, kind) for kind in POLICIES}
        exact = all(is_exact(row[kind]) for kind in POLICIES)
        native, stock = first_successes(name)
        row = {
            "exact": exact,
            "largest_difference": {
                kind: {k: v for k, v in row[kind].items() if v} for kind in POLICIES
            },
            "scripted_successes_of_50": {
                "native": sum(s >= 0 for s in native),
                "stock": sum(s >= 0 for s in stock),
            },
            "same_success_steps": native == stock,
        }
        table[name] = row
        print(name, json.dumps(row), flush=True)
        if options.json:
            options.json.write_text(json.dumps(dict(sorted(table.items())), indent=1) + "\n")


if __name__ == "__main__":
    main()
