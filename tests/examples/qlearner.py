"""A whole off-policy agent in one file: Q-learning with a table for each task."""

from dataclasses import dataclass

import numpy as np
import torch

from mtrl.agents import Agent, AgentConfig
from mtrl.agents.common import task_ids
from mtrl.agents.settings import Share, settings


@settings
class QConfig(AgentConfig):
    learning_rate: Share = 0.3
    """Step size."""
    epsilon: Share = 0.3
    """Share of random actions while training."""


@dataclass(init=False, eq=False)
class QLearner(Agent):
    table: torch.Tensor  # the fields are what is saved
    rng: torch.Generator
    env_steps: int
    obs: np.ndarray | None

    name, config_class, discrete_actions = "q-learner", QConfig, True

    def __init__(self, env, config=None, **more):
        super().__init__(env, config, **more)
        self.table = torch.zeros(self.spec.num_tasks, 4096, self.spec.action_dim)
        self.rng, self.obs = torch.Generator().manual_seed(self.seed), None

    def row(self, obs, ids):  # observations share rows by their hash
        weights = np.random.default_rng(0).integers(1, 2**31, obs.shape[1])
        return torch.from_numpy(ids), torch.from_numpy(obs.astype(np.int64) @ weights % 4096)

    def advance(self):
        ids = self.env.task_id
        obs = self.env.reset(seed=self.seed)[0] if self.obs is None else self.obs
        action, _ = self.predict(obs, task_id=ids)
        self.obs, reward, terminated, _, info = self.env.step(action)
        best = self.table[self.row(info["final_obs"], ids)].amax(-1)
        target = torch.tensor(reward) + 0.95 * best * torch.tensor(~terminated)
        place = (*self.row(obs, ids), torch.from_numpy(action))
        self.table[place] += self.config.learning_rate * (target.float() - self.table[place])
        self.env_steps += len(ids)

    def predict(
        self, observation, state=None, start=None, deterministic=False, *, task_id=None
    ):
        ids = task_ids(self.spec, self._env, len(observation), task_id)
        action = self.table[self.row(observation, ids)].argmax(-1)
        if not deterministic and torch.rand(1, generator=self.rng) < self.config.epsilon:
            action = torch.randint(self.spec.action_dim, action.shape, generator=self.rng)
        return action.numpy(), None

    def metrics(self):
        return {"train/q_value": float(self.table.max())}
