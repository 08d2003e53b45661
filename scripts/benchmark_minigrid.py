"""Speed of the MiniGrid engine beside minigrid in gymnasium's sync vector env, and beside EnvPool if installed.

    python scripts/benchmark_envs.py --quick --json envs.json

Env steps per CPU-second of the process under random actions, resets included, about 64 environments, one thread. Rows
take turns, round by round, and the medians count.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from mtrl.envs import get_suite, make_vec

NUM_ENVS = 64


def _rate(
    step: Callable[[np.ndarray], Any], num_actions: int, num_envs: int, steps: int
) -> float:
    actions = np.random.default_rng(0).integers(0, num_actions, (64, num_envs))
    begin = time.process_time()
    for t in range(steps):
        step(actions[t % 64])
    return steps * num_envs / (time.process_time() - begin)


def _native(suite: str) -> Callable[[], float]:
    env = make_vec(
        suite, NUM_ENVS // get_suite(suite).num_tasks, backend="native", num_threads=1
    )
    env.reset()
    # Long enough that starts and resets come as often as in training.
    return lambda: _rate(env.step, env.single_action_space.n, env.num_envs, 3000)  # type: ignore[attr-defined]


def _stock(suite: str) -> Callable[[], float]:
    import gymnasium
    import minigrid  # noqa: F401  registers the ids

    def one(env_id: str) -> Any:
        return lambda: gymnasium.make(env_id, disable_env_checker=True)

    vectors = [
        gymnasium.vector.SyncVectorEnv([one(task.env_id)] * NUM_ENVS, autoreset_mode="SameStep")
        for task in get_suite(suite).tasks
    ]

    def rate() -> float:
        with contextlib.redirect_stdout(io.StringIO()):  # BabyAI prints its rejected levels
            for seed, vector in enumerate(vectors):
                vector.reset(seed=seed)
            rates = [
                _rate(vector.step, vector.single_action_space.n, NUM_ENVS, 15)
                for vector in vectors
            ]
        return len(rates) / sum(1 / rate for rate in rates)

    return rate


def _envpool(suite: str) -> Callable[[], float] | None:
    """Steps EnvPool on the tasks of the suite that it offers. It draws its own levels and resets."""
    if importlib.util.find_spec("envpool") is None:
        return None
    import envpool

    known = set(envpool.list_all_envs())
    ids = [task.env_id for task in get_suite(suite).tasks if task.env_id in known]
    pools = [
        envpool.make(env_id, env_type="gymnasium", num_envs=NUM_ENVS, num_threads=1)
        for env_id in ids
    ]
    for pool in pools:
        pool.reset()

    def rate() -> float:
        rates = [_rate(pool.step, pool.action_space.n, NUM_ENVS, 200) for pool in pools]
        return len(rates) / sum(1 / rate for rate in rates)

    return rate if pools else None


def minigrid(quick: bool) -> dict[str, Any]:
    """The MiniGrid section: ``native_over_stock`` on mg10, the ratios of other suites, and the rates behind them."""
    numbers: dict[str, Any] = {"rows": {}}
    print(
        "MiniGrid, random actions   stock   native  envpool   steps per CPU-s    native over stock, over envpool"
    )
    for suite in (
        ("mg10",) if quick else ("mg10", "mg3", "mg7", "mg20", "camrl-minigrid", "babyai10")
    ):
        candidates = {
            "stock": _stock(suite),
            "native": _native(suite),
            "envpool": _envpool(suite),
        }
        timers = {name: timer for name, timer in candidates.items() if timer is not None}
        rounds = [
            {name: timer() for name, timer in timers.items()} for _ in range(3 if quick else 5)
        ]
        rates = {name: median(one[name] for one in rounds) for name in timers}
        over = {
            name: rates["native"] / rates[name]
            for name in ("stock", "envpool")
            if name in rates
        }
        numbers["rows"][suite] = rates | {
            f"native_over_{name}": ratio for name, ratio in over.items()
        }
        cells = " ".join(
            f"{rates.get(name, float('nan')):9.0f}" for name in ("stock", "native", "envpool")
        )
        print(
            f"{suite:>20} {cells} {over['stock']:20.0f} {over.get('envpool', float('nan')):8.1f}"
        )
    return numbers | {"native_over_stock": numbers["rows"]["mg10"]["native_over_stock"]}
