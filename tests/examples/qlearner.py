"""A whole off-policy agent in one file: Q-learning with a table for each task."""

import numpy as np
import torch

from mtrl.agents import Agent, AgentConfig
from mtrl.agents.common import task_ids
from mtrl.agents.settings import Count, Share, settings


@settings
class QConfig(AgentConfig):
    learning_rate: Share = 0.3
    """Step size."""
    epsilon: Share = 0.3
    """Share of random actions while training."""
    buckets: Count = 4096
    """Rows of a table; observations share them by their hash."""


class QLearner(Agent):
    name, config_class, discrete_actions = "q-learner", QConfig, True

    def __init__(self, env, config=None, *, seed=0, device="cpu", **overrides):
        super().__init__(env, config, seed=seed, device=device, **overrides)
        self.table = torch.zeros(self.spec.num_tasks, self.config.buckets, self.spec.action_dim)
        self.rng, self.obs = torch.Generator().manual_seed(seed), None

    def rows(self, obs, ids):
        weights = np.random.default_rng(0).integers(1, 2**31, obs.shape[1])
        return torch.from_numpy(ids), torch.from_numpy(
            obs.astype(np.int64) @ weights % self.config.buckets
        )

    def advance(self):
        self.obs = self.env.reset(seed=self.seed)[0] if self.obs is None else self.obs
        action, _ = self.predict(self.obs, task_id=self.env.task_id)
        after, reward, terminated, _, info = self.env.step(action)
        goes_on = 0.95 * self.table[self.rows(info["final_obs"], self.env.task_id)].amax(-1)
        target = torch.from_numpy(reward).float() + goes_on * torch.from_numpy(~terminated)
        place = (*self.rows(self.obs, self.env.task_id), torch.from_numpy(action))
        self.table[place] += self.config.learning_rate * (target - self.table[place])
        self.obs, self.env_steps, self.gradient_steps = (
            after,
            self.env_steps + len(reward),
            self.gradient_steps + 1,
        )

    def predict(
        self, observation, state=None, episode_start=None, deterministic=False, *, task_id=None
    ):
        ids = task_ids(self.spec, self._env, len(observation), task_id)
        greedy = self.table[self.rows(observation, ids)].argmax(-1)
        explore = torch.rand(greedy.shape, generator=self.rng) < (
            0.0 if deterministic else self.config.epsilon
        )
        greedy[explore] = torch.randint(self.spec.action_dim, greedy.shape, generator=self.rng)[
            explore
        ]
        return greedy.numpy(), None

    def metrics(self):
        return {"train/q_value": float(self.table.max())}

    def state_dict(self, experience=True):
        obs = {"obs": torch.from_numpy(self.obs)} if experience and self.obs is not None else {}
        return obs | {
            "table": self.table,
            "rng": self.rng.get_state(),
            "steps": [self.env_steps, self.gradient_steps],
        }

    def load_state_dict(self, state):
        self.table, (self.env_steps, self.gradient_steps) = state["table"].clone(), state["steps"]
        self.rng.set_state(state["rng"])
        self.obs = state["obs"].numpy() if "obs" in state else None
