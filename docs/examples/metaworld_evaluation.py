"""
Meta-World's own evaluation of an agent of ours
===============================================

``metaworld.evaluation.evaluation`` runs anything with ``eval_action`` and ``reset`` in Meta-World's stock environments.
An adapter of a few lines makes one of our agents such an object. Its numbers differ a little from ``mtrl evaluate``:
other goals, and an episode ends at its first success.
"""

# %%
from __future__ import annotations

import sys

import gymnasium
import metaworld  # noqa: F401  (registers Meta-World's ids)
import numpy as np
from metaworld.evaluation import evaluation
from numpy.typing import NDArray

from mtrl import MTPPO, Agent


# %%
class Adapter:
    """An agent of ours as `metaworld.evaluation` calls one: row `i` belongs to task `i` of the suite."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.task_id = np.arange(len(agent.spec.task_names))

    def eval_action(self, observations: NDArray[np.float64]) -> NDArray[np.float64]:
        # Meta-World may append a one-hot task; our agents take the first 39 numbers and `task_id`.
        rows = observations[:, :39].astype(np.float32)
        action, _ = self.agent.predict(rows, deterministic=True, task_id=self.task_id)
        return action

    def reset(self, env_mask: NDArray[np.bool_]) -> None:
        """Nothing: these agents have no memory."""


# %%
def evaluate(run: str, seed: int = 42, episodes: int = 50, **settings: int) -> dict[str, float]:
    """Success of each task in Meta-World's MT10 with the goals of `seed`. `run` is whatever `load` takes."""
    envs = gymnasium.make_vec("Meta-World/MT10", vector_strategy="sync", seed=seed, **settings)
    mean, _, per_task, _ = evaluation(Adapter(MTPPO.load(run)), envs, num_episodes=episodes)
    print(f"mean over tasks {mean:.3f}")
    envs.close()
    return per_task


# %%
if __name__ == "__main__" and len(sys.argv) > 1:
    for name, rate in evaluate(sys.argv[1]).items():
        print(f"{name:24} {rate:.2f}")
