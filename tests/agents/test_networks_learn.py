"""Every registered network learns tasks of which one contradicts the others: a check that costs seconds."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mtrl.agents import MTPPO
from mtrl.agents.networks.registry import NETWORKS
from tests.helpers import fakes


class Mirrored(fakes.FakeEnv):
    """The fake tasks; in the second one actions push the other way."""

    def __init__(self, envs_per_task: int, seed: int) -> None:
        suite = fakes.get_suite("mt10:fake")
        super().__init__(suite, envs_per_task, seed, "random", 0, 0.0)

    def step_async(self, actions: NDArray) -> None:
        sign = np.where(self.task_id == 1, -1.0, 1.0)
        super().step_async(actions * sign[:, None])


def _success(agent: MTPPO) -> NDArray[np.float64]:
    """Success rate of each task, deterministic, in 20 episodes of an environment with other starts."""
    env = Mirrored(20, seed=99)
    obs, _ = env.reset(seed=99)
    solved = np.zeros(env.num_envs, dtype=bool)
    for _ in range(fakes.HORIZON):
        action, _ = agent.predict(obs, deterministic=True, task_id=env.task_id)
        obs, _, _, _, info = env.step(action)
        solved |= info["success"]
    rates: NDArray[np.float64] = solved.reshape(env.num_tasks, -1).mean(1)
    return rates


@pytest.mark.slow
@pytest.mark.parametrize("name", list(NETWORKS))
def test_every_network_learns(name: str) -> None:
    agent = MTPPO(
        Mirrored(8, seed=1),
        seed=1,
        device="cpu",
        network=name,
        width=32,
        rollout_per_task=320,
        epochs=5,
        minibatches=4,
        learning_rate=2e-3,
    )
    before = _success(agent)
    agent.learn(20 * 3 * 320)
    after = _success(agent)
    assert before.mean() < 0.6 and (after >= 0.7).all()
