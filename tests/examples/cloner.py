"""A whole agent that learns from data alone: behavior cloning of an expert that the fake suite allows to know."""

from dataclasses import dataclass

import numpy as np
import torch

from mtrl.agents import Agent, AgentConfig
from mtrl.agents.common import task_ids
from mtrl.agents.settings import Positive, settings


@settings
class CloneConfig(AgentConfig):
    learning_rate: Positive = 0.5
    """Step size of gradient descent."""


@dataclass(init=False, eq=False)
class Cloner(Agent):
    """Fits ``action = gain * (goal - position)`` of each task to demonstrations with a gain of 5."""

    gain: torch.Tensor  # the fields are what is saved
    rng: torch.Generator
    gradient_steps: int

    name, config_class, unit = "cloner", CloneConfig, "gradient_steps"

    def __init__(self, env, config=None, *, seed=0, device="cpu", **overrides):
        super().__init__(env, config, seed=seed, device=device, **overrides)
        self.gain = torch.zeros(self.spec.num_tasks)
        self.rng = torch.Generator().manual_seed(seed)

    def advance(self):
        distance = torch.rand(self.spec.num_tasks, 32, generator=self.rng) - 0.5
        error = (self.gain[:, None] - 5.0) * distance
        self.gain = self.gain - self.config.learning_rate * (error * distance).mean(1)
        self.gradient_steps += 1

    def predict(
        self, observation, state=None, episode_start=None, deterministic=False, *, task_id=None
    ):
        ids = task_ids(self.spec, self._env, len(observation), task_id)
        push = self.gain.numpy()[ids] * (observation[:, 1] - observation[:, 0])
        return np.stack([push, push], 1).clip(-1, 1).astype(np.float32), None

    def metrics(self):
        return {"train/gain": float(self.gain.mean())}
