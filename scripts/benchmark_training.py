"""How fast MT10 training is and where its time goes, beside Stable-Baselines3's update and the stock engine.

    python scripts/benchmark_training.py [--quick] [--json FILE]

Everything compared is measured in turn within one run, because machines are noisy; ratios are of medians.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from mtrl.agents import MTPPO, MTSAC, Agent, EnvSpec
from mtrl.agents.data.replay import Batch, ReplayBuffer
from mtrl.agents.optim.precision import trunk_dtype
from mtrl.envs import make_vec
from mtrl.training.allocator import keep_freed_memory

MT10 = EnvSpec("mt10", tuple(f"task-{i}" for i in range(10)), 39, (-1.0,) * 4, (1.0,) * 4)


def median_seconds(
    functions: dict[str, Callable[[], object]], repeats: int
) -> dict[str, float]:
    """Median time of each function, called in turn ``repeats`` times after two calls to warm up."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats + 2):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if repeat >= 2:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def filled_buffer(batch: int = 128) -> Callable[[], Batch]:
    buffer = ReplayBuffer(10, 2_000, 39, 4, torch.device("cpu"), seed=0)
    buffer.add(*(torch.rand(10, 2_000, *shape) for shape in [(39,), (4,), (), (), (39,)]))
    return lambda: buffer.sample(batch)


def sb3_update() -> Callable[[], object]:
    """One update of Stable-Baselines3's SAC with the same networks and batch, tasks as one-hot columns."""
    from stable_baselines3 import SAC
    from stable_baselines3.common.logger import Logger

    class Still(gym.Env[np.ndarray, np.ndarray]):
        observation_space = gym.spaces.Box(-1, 1, (49,), np.float32)
        action_space = gym.spaces.Box(-1, 1, (4,), np.float32)

    nets = {"net_arch": [400, 400, 400]}
    model = SAC(
        "MlpPolicy",
        Still(),
        batch_size=1280,
        policy_kwargs=nets,
        buffer_size=20_000,
        device="cpu",
    )
    model.set_logger(Logger(None, []))
    rng = np.random.default_rng(0)
    for _ in range(2_000):
        obs, action = rng.uniform(size=(2, 1, 49)), rng.uniform(size=(1, 4))
        model.replay_buffer.add(obs[0], obs[1], action, np.zeros(1), np.zeros(1), [{}])  # type: ignore[union-attr]
    return lambda: model.train(gradient_steps=1, batch_size=1280)


def updates(repeats: int) -> dict[str, float]:
    """Milliseconds an update: ours in both precisions, plain SB3, same batch of 1,280 and 400x3 networks."""
    functions: dict[str, Callable[[], object]] = {}
    for precision in ("bf16", "fp32"):
        agent, sample = MTSAC(MT10, precision=precision, device="cpu"), filled_buffer()  # type: ignore[arg-type]
        functions[f"update_{precision}_ms"] = lambda agent=agent, sample=sample: agent.update(
            sample()
        )
    functions["update_sb3_ms"] = sb3_update()
    return {name: 1e3 * seconds for name, seconds in median_seconds(functions, repeats).items()}


def stepping(repeats: int) -> dict[str, float]:
    """Env steps per second of MT10 with ten environments and random actions: stock vector environment and ours."""
    import metaworld  # noqa: F401  (registers the ids)

    stock = gym.make_vec("Meta-World/MT10", vector_strategy="sync", seed=0)
    stock.reset()
    ours = make_vec("mt10", seed=0)
    ours.reset()
    actions = np.random.default_rng(0).uniform(-1, 1, (10, 4)).astype(np.float32)
    times = median_seconds(
        {
            "gymnasium_sync": lambda: stock.step(actions),
            f"ours_{ours.backend}": lambda: ours.step(actions),
        },
        repeats,
    )
    stock.close()
    ours.close()
    return {f"env_steps_per_second_{name}": 10 / seconds for name, seconds in times.items()}


class Clock:
    """Adds up the seconds spent in the methods it wraps."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def wrap(self, owner: Any, method: str, name: str) -> None:
        function = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

        setattr(owner, method, timed)


def end_to_end(vector_steps: int) -> dict[str, Any]:
    """Env steps a second of the whole training loop with TensorBoard logging, and the share of each part."""
    from mtrl.training.logger import TensorBoardLogger

    env = make_vec("mt10", seed=0)
    agent = MTSAC(env, device="cpu", learning_starts=150)
    agent.learn(2_000)
    clock = Clock()
    for owner, method, name in [
        (agent, "_exploration_action", "act"),
        (env, "step_async", "start the simulation"),
        (env, "step_wait", "wait for the simulation"),
        (agent, "update", "update"),
        (agent, "_land", "store"),
    ]:
        clock.wrap(owner, method, name)
    with tempfile.TemporaryDirectory() as folder:
        events = TensorBoardLogger(Path(folder), 0, {})

        def log(agent: Any) -> None:
            if agent.env_steps % 1_000 == 0:
                events.scalars(agent.metrics(), agent.env_steps)

        start = time.perf_counter()
        agent.learn(2_000 + 10 * vector_steps, log)
        wall = time.perf_counter() - start
        events.close()
    env.close()
    shares = {name: seconds / wall for name, seconds in clock.seconds.items()}
    shares["the rest, with logging"] = 1 - sum(shares.values())
    return {
        "training_env_steps_per_second": 10 * vector_steps / wall,
        "share": shares,
        "backend": env.backend,
    }


def beside_stock(repeats: int) -> dict[str, float]:
    """Whole training on both engines, in turn: env steps a second on native, and its ratio over stock."""
    agents: dict[str, Agent] = {}
    for backend in ("native", "stock"):
        agents[f"mtsac {backend}"] = MTSAC(
            make_vec("mt10", backend=backend), device="cpu", learning_starts=50
        )
        env = make_vec("mt10", 8, backend=backend, stagger=True)
        agents[f"mtppo {backend}"] = MTPPO(
            env, device="cpu", schedule="constant", rollout_per_task=800, minibatches=4
        )
    span = {"mtsac": 300, "mtppo": 8_000}

    def train(agent: Agent, env_steps: int) -> Callable[[], object]:
        return lambda: agent.learn(agent.env_steps + env_steps)

    for name, agent in agents.items():
        if name.startswith("mtsac"):
            agent.learn(600)  # past its random actions
    seconds = median_seconds(
        {name: train(agent, span[name[:5]]) for name, agent in agents.items()}, repeats
    )
    figures: dict[str, float] = {}
    for name, env_steps in span.items():
        figures[f"{name}_env_steps_per_second"] = env_steps / seconds[f"{name} native"]
        figures[f"{name}_native_over_stock"] = (
            seconds[f"{name} stock"] / seconds[f"{name} native"]
        )
    for agent in agents.values():
        agent.env.close()
    return figures


def full_buffer_gib() -> float:
    """Resident memory that a buffer of one million MT10 transitions adds."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    before = resident()
    buffer = ReplayBuffer(10, 100_000, 39, 4, torch.device("cpu"), seed=0)
    rows = [torch.rand(10, 10_000, *shape) for shape in [(39,), (4,), (), (), (39,)]]
    for _ in range(10):
        buffer.add(*rows)
    return (resident() - before) / 2**30


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="a quarter of the repetitions; about a minute"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args()


def main() -> None:
    args = parse()
    keep_freed_memory()
    scale = 1 if args.quick else 4
    figures: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "auto_precision": str(trunk_dtype("auto", torch.device("cpu"))).removeprefix("torch."),
        "buffer_1m_gib": full_buffer_gib(),
    }
    figures |= (
        updates(15 * scale)
        | stepping(100 * scale)
        | end_to_end(100 * scale)
        | beside_stock(3 * scale)
    )
    figures["update_sb3_over_ours"] = figures["update_sb3_ms"] / figures["update_bf16_ms"]
    figures["update_fp32_over_bf16"] = figures["update_fp32_ms"] / figures["update_bf16_ms"]
    figures["peak_memory_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    for name, value in figures.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for part, share in sorted(value.items(), key=lambda item: -item[1]):
                print(f"  {part:<28}{share:>8.1%}")
        else:
            print(
                f"{name:<34}{value:>12.2f}"
                if isinstance(value, float)
                else f"{name:<34}{value:>12}"
            )
    if args.json:
        args.json.write_text(json.dumps({"training": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
