"""PPO training on mg10 beside Stable-Baselines3's PPO on the stock package: frames per second, collection and updates.

    python scripts/benchmark_minigrid_training.py [--quick] [--json FILE]

Both train with the same sizes: 10 tasks x 8 environments, rollouts of 2,000 steps a task, 8 epochs of minibatches of
250 samples a task, actor and critic apart, each a convolution over one-hot cells, one over the words of the mission,
then 128 x 2. SB3 gets the task as a one-hot code; ours has a head per task instead. ``sb3`` steps minigrid's own
environments in SB3's own sync vector environment (``DummyVecEnv``), as a user of both packages would; ``sb3_native``
steps our compiled ones through ``mtrl.sb3.SB3VecEnv``, so that only acting and learning differ. All run on one thread
and take turns; frames per CPU-second count, medians of the rounds, since other work on a machine then matters little.
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
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper
from torch import Tensor, nn

from mtrl.agents import MTPPO
from mtrl.envs import get_suite, make_vec
from mtrl.envs.minigrid.missions import encode_mission
from mtrl.sb3 import SB3VecEnv

SUITE, ENVS, ROLLOUT, EPOCHS, MINIBATCHES, WIDTH, CHANNELS = "mg10", 8, 2_000, 8, 8, 128, 32
CELL, DIRECTIONS, VOCABULARY = (11, 6, 3), 4, 34
TASKS = get_suite(SUITE).tasks
WORDS = make_vec(SUITE).obs_layout.mission_words  # type: ignore[attr-defined]


class Flat(gym.Wrapper[Any, Any, Any, Any]):
    """One stock environment with flat bytes: view, direction, mission tokens, task; masked actions turn left."""

    def __init__(self, task: int) -> None:
        import minigrid  # noqa: F401  registers the ids

        super().__init__(gym.make(TASKS[task].env_id, disable_env_checker=True))
        self.task, self.limit = task, TASKS[task].num_actions or 7
        self.speaks = len(encode_words(self.env.reset(seed=0)[0]["mission"])) > 0
        self.observation_space = gym.spaces.Box(0, 255, (147 + 1 + WORDS + 1,), np.uint8)
        self.action_space = gym.spaces.Discrete(7)

    def _flat(self, obs: dict[str, Any]) -> np.ndarray:
        mission = (
            encode_mission(obs["mission"], WORDS) if self.speaks else np.zeros(WORDS, np.uint8)
        )
        return np.concatenate(
            [obs["image"].ravel(), [obs["direction"]], mission, [self.task]]
        ).astype(np.uint8)

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        obs, info = self.env.reset(**kwargs)
        return self._flat(obs), info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(
            int(action) if action < self.limit else 0
        )
        return self._flat(obs), float(reward), terminated, truncated, info


class WithTask(VecEnvWrapper):
    """The observations of ``Flat`` from a vector environment of ours: its bytes, then the task."""

    def __init__(self, venv: SB3VecEnv) -> None:
        size = venv.observation_space.shape[0] + 1  # type: ignore[index]
        super().__init__(venv, gym.spaces.Box(0, 255, (size,), np.uint8))
        self.task = venv.env.task_id.astype(np.uint8)[:, None]

    def reset(self) -> np.ndarray:
        return np.concatenate([self.venv.reset(), self.task], 1)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        obs, reward, done, infos = self.venv.step_wait()
        for info, task in zip(infos, self.task):
            if "terminal_observation" in info:
                info["terminal_observation"] = np.concatenate(
                    [info["terminal_observation"], task]
                )
        return np.concatenate([obs, self.task], 1), reward, done, infos


def encode_words(mission: str) -> np.ndarray:
    """The mission's tokens, or none where its words say no more than the task."""
    try:
        return encode_mission(mission, WORDS)
    except ValueError:
        return np.zeros(0, np.uint8)


class Extractor(BaseFeaturesExtractor):
    """The encoder of ``mtrl.agents.networks.grid`` in plain PyTorch layers."""

    def __init__(self, space: gym.spaces.Box) -> None:
        super().__init__(space, 9 * CHANNELS + CHANNELS + DIRECTIONS + len(TASKS))
        self.view = nn.Conv2d(sum(CELL), CHANNELS, 3, 2)
        self.words = nn.Conv1d(VOCABULARY, CHANNELS, 3, padding=1)

    def forward(self, obs: Tensor) -> Tensor:
        ids = obs.long()
        one_hot = nn.functional.one_hot
        cells = ids[:, :147].view(-1, 7, 7, 3)
        planes = (
            torch.cat([one_hot(cells[..., i], n) for i, n in enumerate(CELL)], -1)
            .permute(0, 3, 1, 2)
            .float()
        )
        words = one_hot(ids[:, 148:-1], VOCABULARY).transpose(1, 2).float()
        said = self.words(words).relu().mean(2)
        codes = [
            one_hot(ids[:, 147], DIRECTIONS).float(),
            one_hot(ids[:, -1], len(TASKS)).float(),
        ]
        return torch.cat([self.view(planes).relu().flatten(1), said, *codes], 1)


def ours() -> Callable[[], object]:
    agent = MTPPO(
        make_vec(SUITE, ENVS, seed=0, num_threads=1),
        device="cpu", width=WIDTH, depth=2, channels=CHANNELS, rollout_per_task=ROLLOUT, epochs=EPOCHS,
        learning_rate=1e-3, minibatches=MINIBATCHES, kl_stop=None, gae_lambda=0.95, entropy_coef=0.01,
        schedule="constant",
    )  # fmt: skip
    return agent.advance


def stock() -> VecEnv:
    return DummyVecEnv(
        [lambda task=task: Flat(task) for task in range(len(TASKS)) for _ in range(ENVS)]
    )


def native() -> VecEnv:
    return WithTask(SB3VecEnv(make_vec(SUITE, ENVS, seed=0, num_threads=1), encode=False))


def sb3(env: VecEnv) -> Callable[[], object]:
    model = PPO(
        "MlpPolicy", env,
        n_steps=ROLLOUT // ENVS, batch_size=len(TASKS) * ROLLOUT // MINIBATCHES, n_epochs=EPOCHS, learning_rate=1e-3,
        gae_lambda=0.95, ent_coef=0.01, device="cpu", seed=0,
        policy_kwargs={
            "features_extractor_class": Extractor, "share_features_extractor": False, "net_arch": [WIDTH, WIDTH],
        },
    )  # fmt: skip
    model.set_logger(Logger(None, []))
    _, callback = model._setup_learn(10**9)
    steps = model.n_steps

    def advance() -> None:
        model.collect_rollouts(model.env, callback, model.rollout_buffer, steps)  # type: ignore[arg-type]
        model.train()

    return advance


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round instead of seven")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    functions = {"ours": ours(), "sb3": sb3(stock()), "sb3_native": sb3(native())}
    functions["ours"]()  # compiles
    frames = len(TASKS) * ROLLOUT
    rates: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(1 if args.quick else 7):
        for name, function in functions.items():
            start = time.process_time()
            function()
            rates[name].append(frames / (time.process_time() - start))
    figures = {
        f"{name}_frames_per_cpu_second": statistics.median(values)
        for name, values in rates.items()
    }
    for name in ("sb3", "sb3_native"):
        figures[f"ours_over_{name}"] = (
            figures["ours_frames_per_cpu_second"] / figures[f"{name}_frames_per_cpu_second"]
        )
    for name, value in figures.items():
        print(f"{name:<32}{value:>10.1f}")
    if args.json:
        args.json.write_text(json.dumps({"minigrid_training": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
