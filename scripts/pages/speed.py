"""Tables of speed, from ``results/benchmark_*.json`` and ``results/fidelity_native.json``."""

from __future__ import annotations

import json
from typing import Any

from scripts.pages.text import RESULTS, code, table

_STEPPING = {
    "sync_10": "stock, gymnasium's sync vector environment, 10 environments",
    "async_10": "stock, gymnasium's async vector environment, 10 environments",
    "stock_10": "`stock`, 10 environments",
    "native_10": "`native`, 10 environments",
    "native_100": "`native`, 100 environments",
    "native_5000": "`native`, 5,000 environments",
    "physics_100": "MuJoCo's physics alone (`mj_step` and `mj_forward`), same models and actions",
    "envpool_100": "EnvPool, 100 environments: another MuJoCo, other rewards in places, so its speed only",
}
_SHARES = {
    "act": "acting",
    "start the simulation": "starting the simulation",
    "wait for the simulation": "waiting for the simulation",
    "store": "storing",
    "the rest, with logging": "updates and logging",
}


def read(name: str) -> Any:
    """A benchmark's raw file."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def stepping() -> str:
    """Meta-World's engines, then MiniGrid's."""
    figures = read("benchmark_envs")
    rows = figures["metaworld"]["rows"]
    base = rows["sync_10"]["per_cpu_s"]
    lines = [
        [text, f"{rows[key]['per_cpu_s']:,.0f}", f"{rows[key]['per_cpu_s'] / base:.2f}"]
        for key, text in _STEPPING.items()
        if key in rows
    ]
    meta = table(["Meta-World, mt10", "env steps per CPU second", "over stock sync"], lines)
    lines = [
        [
            suite,
            *(
                f"{each[name]:,.0f}" if name in each else "–"
                for name in ("stock", "native", "envpool")
            ),
        ]
        for suite, each in figures["minigrid"]["rows"].items()
    ]
    grid = table(
        ["MiniGrid, env steps per CPU second", "`stock`", "`native`", "EnvPool"], lines
    )
    own = figures["metaworld"]
    facts = (
        f"With {own['cpus']} CPUs `native` steps {own['scaling_to_all_cpus_100'] * own['cpus']:.2f} times as fast "
        "as with one. "
        f"It takes {own['kb_per_env']:.0f} KB an environment; mt50 with 1,000 environments peaks at "
        f"{own['mt50_1000_envs_peak_mb']:,.0f} MB."
    )
    return f"{meta}\n\n{facts}\n\n{grid}"


def training() -> str:
    """Updates and whole training steps on mt10, and MiniGrid beside SB3."""
    own, grid = (
        read("benchmark_training")["training"],
        read("benchmark_minigrid_training")["minigrid_training"],
    )
    rows = [
        [
            "`mtsac`, end to end with logging",
            f"{own['training_env_steps_per_second']:,.0f} env steps/s",
        ],
        ["`mtppo`, end to end", f"{own['mtppo_env_steps_per_second']:,.0f} env steps/s"],
        ["`mtsac`, `native` over `stock`, end to end", f"{own['mtsac_native_over_stock']:.2f}"],
        ["`mtppo`, `native` over `stock`, end to end", f"{own['mtppo_native_over_stock']:.2f}"],
        ["one update of `mtsac`, bfloat16", f"{own['update_bf16_ms']:.0f} ms"],
        ["one update of `mtsac`, float32", f"{own['update_fp32_ms']:.0f} ms"],
        [
            "one update of SB3's SAC, same networks and batch, float32",
            f"{own['update_sb3_ms']:.0f} ms",
        ],
        ["replay buffer of a million transitions", f"{own['buffer_1m_gib']:.2f} GiB"],
        ["peak memory", f"{own['peak_memory_gib']:.2f} GiB"],
    ]
    shares = [[_SHARES[name], f"{100 * share:.1f} %"] for name, share in own["share"].items()]
    text = (
        f"On mg10 `mtppo` trains {grid['ours_over_sb3']:.1f} times as many frames per CPU second as "
        "Stable-Baselines3's PPO with the same network and batches on minigrid's own environments, and "
        f"{grid['ours_over_sb3_native']:.1f} times as many as on our compiled ones."
    )
    where = table(["where the time of `mtsac` goes", "share"], shares)
    return f"{table(['mt10', 'figure'], rows)}\n\n{where}\n\n{text}"


def aggregators() -> str:
    """The whole update over plain averaging, then one solve beside TorchJD's."""
    figures = read("benchmark_aggregators")
    names = sorted(figures["mt10"], key=lambda name: figures["mt10"][name])
    whole = table(
        ["method", "mt10", "mt50"],
        [
            [code(name), *(f"{figures[suite][name]:.2f}" for suite in ("mt10", "mt50"))]
            for name in names
        ],
    )
    solvers = figures["solvers"]
    rows = [
        [code(name), *(_solve(solvers[size][name]) for size in ("10", "50"))]
        for name in solvers["10"]
    ]
    return f"{whole}\n\n### One solve\n\n{table(['method', '10 tasks', '50 tasks'], rows)}"


def _solve(figures: dict[str, Any]) -> str:
    theirs = figures["torchjd_ms"]
    return f"{figures['ms']:.2f} / {'–' if theirs is None else f'{theirs:.2f}'}"


def curricula() -> str:
    """A vector step under each curriculum."""
    own = read("benchmark_curricula")["mt10"]
    rows = [[code(name), f"{ratio:.2f}"] for name, ratio in own["over_uniform"].items()]
    rows.append(["`camrl` over `single-task`", f"{own['camrl_over_single_task']:.2f}"])
    return table(["curriculum", "time over `uniform`, mt10"], rows)


def startup() -> str:
    """Seconds until the command answers."""
    own = read("benchmark_startup")["startup"]
    rows = [
        [name, f"{each['seconds']:.2f}", f"{each['over_torch']:.2f}"]
        for name, each in own.items()
    ]
    return table(["command", "seconds", "over `import torch`"], rows)


def threads() -> str:
    """Updates beside a busy process, with the thread setting of the commands and with libgomp's own."""
    own = read("benchmark_threads")
    rows = [
        [name, *(f"{sorted(times)[len(times) // 2]:.1f}" for times in each.values())]
        for name, each in own["seconds"].items()
    ]
    names = list(next(iter(own["seconds"].values())))
    return table([f"{own['what']}, median", *names], rows)


def fidelity() -> str:
    """How far the compiled engine is from the stock package."""
    tasks = read("fidelity_native")
    exact = sum(each["exact"] for each in tasks.values())
    differences = [
        value["reward"]
        for each in tasks.values()
        for value in each["largest_difference"].values()
        if "reward" in value
    ]
    same = sum(each["same_success_steps"] for each in tasks.values())
    return (
        f"On {exact} of {len(tasks)} Meta-World tasks `native` gives the positions, velocities and observations of "
        f"the stock package bit for bit, on {same} success at the same steps. "
        f"Rewards differ by at most {max(differences):.1e}."
    )
