"""Speed of the environments beside the stock vector environments, in one run so that ratios are fair.

    python scripts/benchmark_envs.py --quick
    python scripts/benchmark_envs.py --json envs.json

Rows take turns, round by round, and the medians over rounds are reported: env steps per second, per CPU-second of all
processes, and peak memory. Each row runs in a process of its own. The ratios are of env steps per CPU-second, which is
per core, and which other programs on the machine disturb least.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmark_minigrid import minigrid  # noqa: E402

from mtrl.envs import get_suite, make_vec  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")


def stock_vector_env(strategy: str) -> Any:
    """The vector environment that a user of the stock package gets."""
    import gymnasium
    import metaworld  # noqa: F401  registers the ids

    return gymnasium.make_vec("Meta-World/MT10", vector_strategy=strategy, seed=0)


def stock_sync_100() -> Any:
    """The same with ten environments of each task, which ``make_vec`` cannot be asked for."""
    import gymnasium
    import metaworld

    benchmark = metaworld.MT10(seed=0)
    makers = []
    for name, env_class in benchmark.train_classes.items():
        tasks = [task for task in benchmark.train_tasks if task.env_name == name]
        makers += 10 * [
            partial(metaworld._init_each_env, env_cls=env_class, tasks=tasks, seed=0)
        ]
    return gymnasium.vector.SyncVectorEnv(
        makers, autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP
    )


class Physics:
    """Five ``mj_step`` and one ``mj_forward`` on the native engine's models, with the same actions; nothing else."""

    def __init__(self, envs_per_task: int) -> None:
        from mtrl.envs.compiled import kernel
        from mtrl.envs.metaworld.native import layout as at
        from mtrl.envs.metaworld.native import share
        from mtrl.envs.metaworld.native.jit import call_two
        from mtrl.envs.metaworld.native.kernel import load, place, save
        from mtrl.envs.metaworld.native.physics import FRAME_SKIP

        self.env: Any = make_vec("mt10", envs_per_task, backend="native", num_threads=1)
        self.num_envs, self._elapsed = self.env.num_envs, 0
        rows = self.env._chunks[:, [share.FIRST, share.PAST]].tolist()
        self._chunks = [(slice(*row), sim) for row, sim in zip(rows, self.env._simulations)]
        for _, sim in self._chunks:
            sim.model.vis.global_.bvactive = 1  # as in the models that stock loads

        @kernel
        def physics(ctx: Any, bounds: Any, state: Any, init: Any, actions: Any) -> None:
            for i in range(len(state)):
                load(ctx, state[i], init[i])
                place(ctx, bounds, state[i], actions[i])
                for _ in range(FRAME_SKIP):
                    call_two(ctx[at.MJ_STEP], ctx[at.MODEL], ctx[at.DATA])
                call_two(ctx[at.MJ_FORWARD], ctx[at.MODEL], ctx[at.DATA])
                save(ctx, state[i])

        self._physics = physics

    def reset(self) -> None:
        self.env.reset()

    def step(self, actions: np.ndarray) -> None:
        if self._elapsed % 500 == 0:
            self.env.reset()
        self._elapsed += 1
        for part, sim in self._chunks:
            self._physics(
                sim.ctx, sim.bounds, self.env._state[part], self.env._init[part], actions[part]
            )

    def close(self) -> None:
        self.env.close()


class EnvPools:
    """One EnvPool a task. Only its speed compares: it runs another MuJoCo, and some of its rewards differ."""

    def __init__(self, envs_per_task: int) -> None:
        import envpool  # type: ignore[import-not-found]

        names = [
            name.removesuffix("-v3").title().replace("-", "")
            for name in get_suite("mt10").task_names
        ]
        settings = {"env_type": "gymnasium", "num_envs": envs_per_task, "num_threads": 1}
        self.pools = [envpool.make(f"MetaWorld/{name}-v3", **settings) for name in names]
        self.num_envs = 10 * envs_per_task

    def reset(self) -> None:
        for pool in self.pools:
            pool.reset()

    def step(self, actions: np.ndarray) -> None:
        for pool, part in zip(self.pools, np.split(actions, 10)):
            pool.step(part)

    def close(self) -> None:
        for pool in self.pools:
            pool.close()


def rows(quick: bool) -> dict[str, Callable[[], Any]]:
    """Name of each row -> what makes its environment; names end in the number of environments.

    ``native`` runs on one thread and ``native-all`` on all CPUs.
    """
    cpus = len(os.sched_getaffinity(0))
    table: dict[str, Callable[[], Any]] = {
        "sync_10": lambda: stock_vector_env("sync"),
        "sync_100": stock_sync_100,
        "async_10": lambda: stock_vector_env("async"),
        "stock_10": lambda: make_vec("mt10", backend="stock", num_workers=0),
        "physics_100": lambda: Physics(10),
    }
    for num_envs in (10, 100, 5000) if quick else (10, 20, 100, 500, 5000):
        table[f"native_{num_envs}"] = _native("mt10", num_envs, 1)
    for num_envs in (10, 100) if quick else (10, 100, 500):
        table[f"native-all_{num_envs}"] = _native("mt10", num_envs, cpus)
    table["mt50-native-all_1000"] = _native("mt50", 1000, cpus)
    if find_spec("envpool"):
        table["envpool_100"] = lambda: EnvPools(10)
    return table


def _native(suite: str, num_envs: int, num_threads: int) -> Callable[[], Any]:
    envs_per_task = num_envs // get_suite(suite).num_tasks
    return lambda: make_vec(suite, envs_per_task, backend="native", num_threads=num_threads)


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in family(int(child)))]


def cpu_seconds() -> float:
    """CPU time so far of this process, all its threads and its descendants."""
    stats = [
        Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        for pid in family(os.getpid())
    ]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / TICK


def memory_mb(kind: str) -> float:
    """Sum over this process and its descendants of resident memory, now (``VmRSS``) or at its peak (``VmHWM``)."""
    statuses = [
        Path(f"/proc/{pid}/status").read_text().splitlines() for pid in family(os.getpid())
    ]
    return (
        sum(
            int(line.split()[1])
            for lines in statuses
            for line in lines
            if line.startswith(kind)
        )
        / 2**10
    )


def serve(row: str, quick: bool) -> None:
    """Runs in a row's own process: one measurement for each line on standard input."""
    begin = time.perf_counter()
    env = rows(quick)[row]()
    env.reset()
    startup = time.perf_counter() - begin
    actions = np.random.default_rng(0).uniform(-1, 1, (64, env.num_envs, 4)).astype(np.float32)
    print(json.dumps({"startup_s": startup}), flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(env, actions, float(line))), flush=True)
    env.close()


def measure(env: Any, actions: np.ndarray, seconds: float) -> dict[str, float]:
    """Random actions for about ``seconds``, resets at episode ends included."""
    steps, best, cpu, begin = 0, math.inf, cpu_seconds(), time.perf_counter()
    while (wall := (before := time.perf_counter()) - begin) < seconds:
        env.step(actions[steps % len(actions)])
        best = min(best, time.perf_counter() - before)
        steps += 1
    cpu = cpu_seconds() - cpu
    env_steps = steps * env.num_envs
    memory = {"memory_mb": memory_mb("VmRSS"), "peak_memory_mb": memory_mb("VmHWM")}
    return {
        "per_s": env_steps / wall,
        "per_cpu_s": env_steps / cpu,
        "best_per_s": env.num_envs / best,
    } | memory


def run(quick: bool) -> dict[str, dict[str, float]]:
    """Measures all rows in turn."""
    command = [sys.executable, __file__, *(["--quick"] if quick else []), "--row"]
    processes, results = {}, {}
    for row in rows(quick):
        processes[row] = subprocess.Popen(
            [*command, row], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        results[row] = _reply(processes[row])
    rounds: dict[str, list[dict[str, float]]] = {row: [] for row in processes}
    for _ in range(3 if quick else 7):
        for row, process in processes.items():
            assert process.stdin is not None
            print(1.5 if quick else 5, file=process.stdin, flush=True)
            rounds[row].append(_reply(process))
    for row, process in processes.items():
        process.communicate()
        results[row] |= {key: median(one[key] for one in rounds[row]) for key in rounds[row][0]}
    return results


def _reply(process: subprocess.Popen[str]) -> dict[str, float]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"A row ended early; run it alone to see why: {process.args}")
    reply: dict[str, float] = json.loads(line)
    return reply


def ratios(results: dict[str, dict[str, float]]) -> dict[str, float]:
    """The ratios that the documentation reports for the native backend."""

    def over(row: str, base: str) -> float:
        return results[row]["per_cpu_s"] / results[base]["per_cpu_s"]

    cpus = len(os.sched_getaffinity(0))
    large, small = results["native_5000"], results["native_100"]
    return {
        "native_over_sync_10": over("native_10", "sync_10"),
        "native_over_sync_100": over("native_100", "sync_100"),
        "native_over_async": over("native_10", "async_10"),
        "native_over_physics_100": over("native_100", "physics_100"),
        # by the fastest vector steps, in which no other program took a CPU
        "scaling_to_all_cpus_100": results["native-all_100"]["best_per_s"]
        / (cpus * small["best_per_s"]),
        "kb_per_env": (large["memory_mb"] - small["memory_mb"]) * 2**10 / 4900,
        "mt50_1000_envs_peak_mb": results["mt50-native-all_1000"]["peak_memory_mb"],
        "cpus": cpus,
    }


def metaworld(quick: bool) -> dict[str, Any]:
    """The Meta-World section: rows, their ratios, and a printed table."""
    results = run(quick)
    base = results["sync_10"]
    print(
        "random actions, MT10       env steps/s   per CPU-s     peak MB   startup s   x sync  per CPU-s"
    )
    for row, one in results.items():
        name, _, size = row.rpartition("_")
        wall = one["per_s"] / base["per_s"]
        cpu = one["per_cpu_s"] / base["per_cpu_s"]
        cells = f"{one['per_s']:11.0f} {one['per_cpu_s']:11.0f} {one['peak_memory_mb']:11.0f} {one['startup_s']:11.1f}"
        print(f"{name:>15} {size:>4} envs  {cells} {wall:8.2f} {cpu:10.2f}")
    table = ratios(results)
    for name, value in table.items():
        print(f"{name:>26} {value:9.2f}")
    return {"rows": results} | table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="a minute or two, with fewer sizes and rounds"
    )
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        serve(arguments.row, arguments.quick)
        return
    sections = {"metaworld": metaworld, "minigrid": minigrid}
    numbers = {name: section(arguments.quick) for name, section in sections.items()}
    if arguments.json:
        arguments.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
