"""The official evaluation: its own environments and random streams, the deterministic action, counts per task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mtrl import envs
from mtrl.agents.data.arrays import host
from mtrl.envs import TaskVectorEnv
from mtrl.records.record import TaskResult
from mtrl.settings.config import TrainConfig

Bools = NDArray[np.bool_]


class Policy(Protocol):
    """What can be evaluated: any agent, and anything else with its ``predict``."""

    def predict(
        self,
        observation: NDArray,
        state: Any = None,
        episode_start: NDArray | None = None,
        deterministic: bool = False,
        *,
        task_id: NDArray | None = None,
    ) -> tuple[NDArray, Any]: ...


def _any_step(ever: Bools, success: Bools, terminated: Bools, reward: NDArray) -> Bools:
    return ever


def _terminated_positive(
    ever: Bools, success: Bools, terminated: Bools, reward: NDArray
) -> Bools:
    return terminated & (reward > 0)


_SUCCESS_RULES: dict[str, Callable[[Bools, Bools, Bools, NDArray], Bools]] = {
    "any-step": _any_step,
    "terminated-positive": _terminated_positive,
}


class EvaluationStopped(Exception):
    """The caller asked for a stop before every episode was done."""


class Evaluator:
    """Runs every task for exactly ``episodes_per_task`` episodes; each call repeats the same starts and goals.

    Args:
        env: used by nobody else, built with ``goals="cycle"``.
        episodes_per_task: shared out over the task's environments in advance, so that short episodes do not count more.
    """

    def __init__(self, env: TaskVectorEnv, episodes_per_task: int) -> None:
        self.env = env
        self.episodes_per_task = episodes_per_task
        share, extra = divmod(episodes_per_task, env.envs_per_task)
        quota = share + (np.arange(env.envs_per_task) < extra)
        self._quota = np.tile(quota, env.num_tasks)
        self._starts: list[set[bytes | None]] = []

    @property
    def distinct_levels(self) -> dict[str, int] | None:
        """Different levels or goals, by content, among the last evaluation's episodes of each task.

        None before the first evaluation, and where the backend cannot tell.
        """
        if not self._starts or any(None in starts for starts in self._starts):
            return None
        return {
            name: len(starts) for name, starts in zip(self.env.suite.task_names, self._starts)
        }

    def evaluate(
        self, policy: Policy, should_stop: Callable[[], bool] = lambda: False
    ) -> dict[str, TaskResult]:
        """Counts per task, in the suite's order.

        Raises:
            EvaluationStopped: ``should_stop`` returned True.
        """
        env, success_rule = self.env, _SUCCESS_RULES[self.env.suite.success]
        obs, memory = env.rebase(0), None
        start: Bools = np.ones(env.num_envs, dtype=bool)
        done = np.zeros(env.num_envs, dtype=np.int64)
        ever: Bools = np.zeros(env.num_envs, dtype=bool)
        episode_return, length = np.zeros(env.num_envs), np.zeros(env.num_envs, dtype=np.int64)
        # Successes, final-step successes, returns, lengths.
        totals = np.zeros((4, env.num_envs))
        self._starts = [set() for _ in env.suite.tasks]
        self._note_starts(start & (done < self._quota))
        while (done < self._quota).any():
            if should_stop():
                raise EvaluationStopped
            action, memory = policy.predict(
                obs, memory, start, deterministic=True, task_id=env.task_id
            )
            obs, rewards, ends, cuts, info = env.step(action)
            reward, terminated, success = host(rewards), host(ends), host(info["success"])
            ever |= success
            episode_return += reward
            length += 1
            start = terminated | host(cuts)
            counted = start & (done < self._quota)
            won = success_rule(ever, success, terminated, reward)
            totals += counted * np.stack([won, success, episode_return, length])
            done += counted
            ever[start], episode_return[start], length[start] = False, 0.0, 0
            self._note_starts(start & (done < self._quota))
        return self._per_task(totals)

    def _note_starts(self, which: Bools) -> None:
        """Record the start content of the episodes that begin now in the environments ``which``."""
        for index in np.flatnonzero(which).tolist():
            self._starts[self.env.task_id[index]].add(self.env.start_content(index))

    def _per_task(self, totals: NDArray) -> dict[str, TaskResult]:
        env, episodes = self.env, self.episodes_per_task
        sums = totals.reshape(4, env.num_tasks, env.envs_per_task).sum(2)
        return {
            name: TaskResult(
                int(wins),
                int(final),
                episodes,
                float(returns) / episodes,
                float(lengths) / episodes,
            )
            for name, (wins, final, returns, lengths) in zip(env.suite.task_names, sums.T)
        }

    def close(self) -> None:
        self.env.close()


def evaluation_seed(seed: int) -> int:
    """Derive the environments' seed. Its stream differs from training's, also where the two seeds are equal."""
    return int(np.random.SeedSequence([seed, 0x6576616C]).generate_state(1)[0])


def goal_seed(config: TrainConfig) -> int:
    """Seed of the goals or levels that evaluate a run: an explicit evaluation seed, else the run's own.

    Where training draws from a fixed pool of levels, this is the pool's seed, because evaluation plays levels outside.
    """
    if config.eval.seed is None or envs.get_suite(config.suite).level_pool is not None:
        return config.benchmark_seed
    return config.eval.seed


def evaluation_env(config: TrainConfig, envs_per_task: int, **settings: Any) -> TaskVectorEnv:
    """The environments of a run's evaluation.

    Args:
        settings: of ``make_vec``, such as the backend.
    """
    return envs.make_vec(
        config.suite,
        envs_per_task,
        seed=evaluation_seed(config.eval.seed or 0),
        goals="cycle",
        goal_seed=goal_seed(config),
        num_workers=config.num_workers,
        **settings,
    )


def make_evaluator(config: TrainConfig, episodes_per_task: int | None = None) -> Evaluator:
    """The evaluator of a run, by its suite, backend and evaluation settings."""
    episodes = episodes_per_task or config.eval.episodes_per_task
    env = evaluation_env(
        config,
        min(config.eval.envs_per_task, episodes),
        backend=config.backend,
        num_threads=config.num_threads,
    )
    return Evaluator(env, episodes)
