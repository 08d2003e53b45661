"""How fast PPO trains on mg10: ours beside Stable-Baselines3's on stock minigrid, in one run.

    python scripts/benchmark_minigrid_training.py [--quick] [--json FILE]

Both train networks of one shape (categories one-hot, convolution 3 x 3 stride 2 with 32 channels, two hidden layers of
128, actor and critic apart) on rollouts of 2,000 env steps per task, 8 epochs of 8 minibatches, one thread. SB3 has one
head for all tasks (the task as one-hot input), since its policies know no others; its environments are minigrid's own,
stepped one after the other as gymnasium's synchronous vector environment does (which itself takes no tasks whose action
spaces differ). Rollouts alternate, because machines are noisy; figures are per CPU second, ratios are of medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from agents import MTPPO, MTPPOConfig
from agents.base import EnvSpec
from agents.grid import GridLayout
from envs import make_vec
from mtrl.presets import resolve
from mtrl.sb3 import SB3VecEnv

SUITE, ENVS_PER_TASK = "mg10", 8


class Convolution(nn.Module):
    """The encoder of ``agents.grid`` as SB3 users write it: one-hot planes, ``Conv2d``, ``Conv1d``."""

    def __init__(self, layout: GridLayout, tasks: int, channels: int) -> None:
        super().__init__()
        self.sizes, self.layout = layout.sizes(), layout
        self.view = nn.Conv2d(layout.cell, channels, 3, 2)
        self.words = nn.Conv1d(layout.vocabulary, channels, 3, padding=1)
        self.features_dim = 9 * channels + channels + layout.directions + tasks

    def forward(self, x: Tensor) -> Tensor:
        """Features of SB3's one-hot rows: 49 cells, direction, words, task."""
        layout = self.layout
        cells, direction, words, task = x.split(
            [49 * layout.cell, layout.directions, layout.words * layout.vocabulary, x.shape[1] - sum(self.sizes)], 1
        )
        view = self.view(cells.view(-1, 7, 7, layout.cell).permute(0, 3, 1, 2)).relu().flatten(1)
        codes = words.view(-1, layout.words, layout.vocabulary)
        there = 1 - codes[..., :1]
        read = self.words(codes.transpose(1, 2)).relu() * there.transpose(1, 2)
        return torch.cat([view, read.sum(2) / there.sum(1).clamp_min(1), direction, task], 1)


def sb3_rollouts() -> Callable[[], object]:
    """One rollout of SB3's PPO with its updates."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

    source = make_vec(SUITE, ENVS_PER_TASK, backend="stock", seed=0)
    spec = EnvSpec.of(source)
    layout = spec.layout
    assert layout is not None

    class Extractor(BaseFeaturesExtractor):
        def __init__(self, space: gym.Space[Any]) -> None:
            encoder = Convolution(layout, spec.num_tasks, 32)
            super().__init__(space, encoder.features_dim)
            self.encoder = encoder

        def forward(self, observations: Tensor) -> Tensor:
            return self.encoder(observations.float())

    config = resolve({"suite": SUITE}).agent
    assert isinstance(config, MTPPOConfig)
    model = PPO(
        "MlpPolicy",
        SB3VecEnv(source),
        n_steps=config.rollout_per_task // ENVS_PER_TASK,
        batch_size=config.rollout_per_task * spec.num_tasks // config.minibatches,
        n_epochs=config.epochs,
        learning_rate=config.learning_rate,
        policy_kwargs={
            "features_extractor_class": Extractor,
            "share_features_extractor": False,
            "net_arch": [config.width] * config.depth,
        },
        device="cpu",
        seed=0,
    )
    frames = config.rollout_per_task * spec.num_tasks
    return lambda: model.learn(frames, reset_num_timesteps=False)


def our_rollouts(**overrides: Any) -> Callable[[], object]:
    """One rollout of MTPPO with its updates."""
    config = resolve({"suite": SUITE}).agent
    assert isinstance(config, MTPPOConfig)
    agent = MTPPO(make_vec(SUITE, ENVS_PER_TASK, seed=0), config, seed=0, device="cpu", **overrides)
    return agent.advance


def seconds(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median CPU seconds of each, called in turn after one call to warm up."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats + 1):
        for name, function in functions.items():
            start = time.process_time()
            function()
            if repeat:
                times[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = resolve({"suite": SUITE}).agent
    assert isinstance(config, MTPPOConfig)
    frames = config.rollout_per_task * len(make_vec(SUITE).suite.tasks)
    found = seconds(
        {"mtppo": our_rollouts(), "mtppo_fp32": our_rollouts(precision="fp32"), "sb3": sb3_rollouts()},
        1 if arguments.quick else 5,
    )
    rates = {f"{name}_frames_per_cpu_second": frames / value for name, value in found.items()}
    ratios = {f"{name}_over_sb3": found["sb3"] / found[name] for name in ("mtppo", "mtppo_fp32")}
    for name, value in (rates | ratios).items():
        print(f"{name:<40} {value:12,.1f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"minigrid_training": rates | ratios}, indent=2) + "\n")


if __name__ == "__main__":
    main()
