"""Running means for the log: of losses on the device, and of finished episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtrl.agents.data.arrays import Array, as_type, functions, host, zeros
from mtrl.agents.data.transfer import fetch
from mtrl.agents.errors import DivergedError


class Meter:
    """Sums metric tensors on their device; nothing is copied to the host before ``drain``.

    Attributes:
        images: matrices of cosines ``[T, T]`` from the last ``drain``, moved from [-1, 1] to [0, 1], by log key.
    """

    def __init__(self, task_names: Sequence[str]) -> None:
        self._task_names = task_names
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, NDArray[np.int64]] = {}
        self.images: dict[str, NDArray] = {}

    def add(self, metrics: dict[str, Tensor], task: int | None = None) -> None:
        """Add metrics of one update.

        Args:
            metrics: each ``[1]``, per task ``[1, T]`` or cosines of tasks ``[1, T, T]``; with ``task``, each of one
                element and about that task alone.
        """
        for name, value in metrics.items():
            if name not in self._sums:
                size = value.shape if task is None else (1, len(self._task_names))
                self._sums[name] = torch.zeros(size, device=value.device)
                self._counts[name] = np.zeros(size[1:], np.int64)
            if task is None:
                self._sums[name] += value
                self._counts[name] += 1
            else:
                self._sums[name][0, task] += value.squeeze()
                self._counts[name][task] += 1

    @property
    def sums(self) -> list[Tensor]:
        """Sums since the last ``drain``, on their device."""
        return [total[0] for total in self._sums.values()]

    def drain(self, numbers: Sequence[NDArray] | None = None) -> dict[str, float]:
        """Means since the last call: ``train/<name>`` and, for per-task metrics, also ``train/<name>/<task>``.

        Args:
            numbers: ``sums``, where they have been fetched already.

        Raises:
            DivergedError: a mean is not finite.
        """
        out: dict[str, float] = {}
        totals = fetch(self.sums) if numbers is None else numbers
        for name, sums in zip(list(self._sums), totals, strict=True):
            count = self._counts[name]
            seen = count > 0
            # A task without an update has no mean.
            mean = sums[seen] / count[seen]
            if count.ndim == 2:
                cosines = mean.reshape(count.shape)
                self.images[f"train/{name}"] = (cosines + 1) / 2
                continue
            out[f"train/{name}"] = float(mean.mean())
            if count.ndim:
                names = [task for task, updated in zip(self._task_names, seen) if updated]
                for task, value in zip(names, mean):
                    out[f"train/{name}/{task}"] = float(value)
        self._sums = {}
        self._counts = {}
        for name, value in out.items():
            if not np.isfinite(value):
                raise DivergedError(f"{name} is {value}")
        return out


@dataclass(init=False, eq=False)
class EpisodeTracker:
    """Return, length and any-step success of training episodes, per environment, summarized per task.

    Keys follow Stable-Baselines3: ``rollout/ep_rew_mean``, ``rollout/ep_len_mean``, ``rollout/success_rate``, and
    ``rollout/success/<task>``. These come from the exploring policy and are no evaluation.

    All is counted in float64 where the environment's arrays live: ``device``, None for numpy's.

    Attributes:
        recent_success: ``[T]``, success rate with episodes weighted down by 0.9 for each newer one, from 0.
        recent_return: ``[T]``, return weighted the same way, from the first episode's.
        episodes: ``[T]``, episodes finished so far.
    """

    _running_reward: Array
    _running_length: Array
    _running_success: Array
    _finished_reward: Array
    _finished_length: Array
    _finished_success: Array
    _finished_episodes: Array
    recent_success: Array
    recent_return: Array
    episodes: Array

    def __init__(
        self, task_names: Sequence[str], envs_per_task: int, device: torch.device | None = None
    ) -> None:
        self._task_names = task_names
        self._device = device
        num_tasks = len(task_names)
        shape = (num_tasks, envs_per_task)
        self._running_reward = zeros(shape, device)
        self._running_length = zeros(shape, device)
        self._running_success = zeros(shape, device)
        self.recent_success = zeros((num_tasks,), device)
        self.recent_return = zeros((num_tasks,), device)
        self.episodes = zeros((num_tasks,), device)
        self._forget_finished()

    def add(
        self,
        reward: Array,
        success: Array,
        done: Array,
        active: Array | None = None,
    ) -> None:
        """Account for one vector step, with ``[num_envs]`` each; ``active`` ``[T]`` says which tasks made it."""
        shape = self._running_reward.shape
        self._running_reward += reward.reshape(shape)
        self._running_length += 1 if active is None else active[:, None]
        # Flags as indices would make a device say how many are set.
        of = functions(success)
        self._running_success = of.where(success.reshape(shape), 1.0, self._running_success)
        # Asking a device whether any episode ended would wait for it.
        if self._device is not None or done.any():
            self._finish(done.reshape(shape))

    def _finish(self, ended: Array) -> None:
        """Account for the episodes that ended in this step, ``[T, E]``."""
        of = functions(ended)
        episodes = as_type(ended.sum(1), "float64")
        # One array for all three, so that a step ends episodes in one product.
        sums = of.stack([self._running_reward, self._running_length, self._running_success])
        totals = (sums * ended).sum(2)
        self._running_reward = of.where(ended, 0.0, self._running_reward)
        self._running_length = of.where(ended, 0.0, self._running_length)
        self._running_success = of.where(ended, 0.0, self._running_success)
        self._finished_reward += totals[0]
        self._finished_length += totals[1]
        self._finished_success += totals[2]
        self._finished_episodes += episodes
        score, _, rate = totals / episodes.clip(1)
        share = 1 - 0.9**episodes
        self.recent_success += share * (rate - self.recent_success)
        # A return has no natural start, so the first episodes set it; success starts from 0.
        first = (self.episodes == 0) & (episodes > 0)
        weight = of.where(first, 1.0, share)
        self.recent_return += weight * (score - self.recent_return)
        self.episodes += episodes

    def drain(self) -> dict[str, float]:
        """Means over the episodes finished since the last call; empty if there were none."""
        finished = [
            self._finished_episodes,
            self._finished_success,
            self._finished_reward,
            self._finished_length,
        ]
        # One array for all four, so that a device is waited for once.
        episodes, *sums = host(functions(self._finished_episodes).stack(finished))
        if not episodes.any():
            return {}
        seen = episodes > 0
        success, score, length = [total[seen] / episodes[seen] for total in sums]
        out = {
            "rollout/ep_rew_mean": float(score.mean()),
            "rollout/ep_len_mean": float(length.mean()),
            "rollout/success_rate": float(success.mean()),
        }
        names = [task for task, finished in zip(self._task_names, seen) if finished]
        for task, value in zip(names, success):
            out[f"rollout/success/{task}"] = float(value)
        self._forget_finished()
        return out

    def _forget_finished(self) -> None:
        shape = (len(self._task_names),)
        self._finished_reward = zeros(shape, self._device)
        self._finished_length = zeros(shape, self._device)
        self._finished_success = zeros(shape, self._device)
        self._finished_episodes = zeros(shape, self._device)

    def restart(self) -> None:
        """Forget the episodes in progress."""
        self._running_reward[:] = 0
        self._running_length[:] = 0
        self._running_success[:] = 0
