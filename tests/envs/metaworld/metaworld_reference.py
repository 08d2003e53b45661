"""Metaworld used directly, as the reference."""

import pickle

import numpy as np
from metaworld.policies import ENV_POLICY_MAP


class Reference:
    """One plain metaworld environment that plays goals of a benchmark through ``set_task``."""

    def __init__(self, benchmark, name, reward_version="v2"):
        self.env = benchmark.train_classes[name](reward_function_version=reward_version)
        self.tasks = [task for task in benchmark.train_tasks if task.env_name == name]

    def reset(self, goal):
        self.env.set_task(self.tasks[goal])
        return self.env.reset()[0]


class Policies:
    """The scripted policies of a suite's tasks as one function of the batch [num_envs, >=39]."""

    def __init__(self, env):
        names = np.array(env.suite.task_names)[env.task_id]
        self.policies = [ENV_POLICY_MAP[name]() for name in names]

    def __call__(self, obs):
        # A copy, which the policies of the door tasks change.
        rows = obs[:, :39].astype(np.float64)
        actions = [policy.get_action(row) for policy, row in zip(self.policies, rows)]
        return np.clip(np.array(actions), -1, 1).astype(np.float32)


def benchmark_vectors(benchmark, name):
    """The 50 random vectors of a task."""
    return [
        pickle.loads(task.data)["rand_vec"]
        for task in benchmark.train_tasks
        if task.env_name == name
    ]


def random_steps(env, steps, seed=0):
    """Observations, rewards and successes of random actions [steps, num_envs, D + 2]."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(steps):
        obs, reward, _, _, info = env.step(
            rng.uniform(-1, 1, (env.num_envs, 4)).astype(np.float32)
        )
        rows.append(np.concatenate([obs, reward[:, None], info["success"][:, None]], axis=1))
    return np.stack(rows)
