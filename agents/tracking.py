"""Running means for the log: of losses on the device, and of finished episodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.errors import DivergedError


class Meter:
    """Sums metric tensors on their device; nothing is copied to the host before ``drain``."""

    def __init__(self, task_names: Sequence[str]) -> None:
        self._task_names = task_names
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Add metrics of one update, each ``[1]`` or per task ``[1, T]``."""
        for name, value in metrics.items():
            if name in self._sums:
                self._sums[name] += value
            else:
                self._sums[name] = value.clone()
        self._count += 1

    def drain(self) -> dict[str, float]:
        """Means since the last call: ``train/<name>`` and, for per-task metrics, also ``train/<name>/<task>``.

        Raises:
            DivergedError: a mean is not finite.
        """
        means = {name: (total / self._count).squeeze(0).tolist() for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        out: dict[str, float] = {}
        for name, mean in means.items():
            if isinstance(mean, list):
                out[f"train/{name}"] = float(np.mean(mean))
                out |= {f"train/{name}/{task}": value for task, value in zip(self._task_names, mean)}
            else:
                out[f"train/{name}"] = mean
        for name, value in out.items():
            if not np.isfinite(value):
                raise DivergedError(f"{name} is {value}")
        return out


class EpisodeTracker:
    """Return, length and any-step success of training episodes, per environment, summarized per task.

    Keys follow Stable-Baselines3: ``rollout/ep_rew_mean``, ``rollout/ep_len_mean``, ``rollout/success_rate``, and
    ``rollout/success/<task>``. These come from the exploring policy and are no evaluation.

    Attributes:
        recent_success: ``[T]``, success rate with episodes weighted down by 0.9 for each newer one.
    """

    def __init__(self, task_names: Sequence[str], envs_per_task: int) -> None:
        self._task_names = task_names
        size = (len(task_names), envs_per_task)
        self._running: dict[str, NDArray] = {
            "reward": np.zeros(size),
            "length": np.zeros(size),
            "success": np.zeros(size),
        }
        self._finished: dict[str, NDArray] = {
            name: np.zeros(len(task_names)) for name in ("reward", "length", "success", "episodes")
        }
        self.recent_success = np.zeros(len(task_names))

    def add(self, reward: NDArray, success: NDArray, done: NDArray) -> None:
        """Account for one vector step; all arrays are ``[num_envs]``."""
        running = self._running
        shape = running["reward"].shape
        running["reward"] += reward.reshape(shape)
        running["length"] += 1
        np.maximum(running["success"], success.reshape(shape), out=running["success"])
        if done.any():
            ended = done.reshape(shape)
            episodes = ended.sum(1)
            rate = (running["success"] * ended).sum(1) / np.maximum(episodes, 1)
            self.recent_success += (1 - 0.9**episodes) * (rate - self.recent_success)
            for name, value in running.items():
                self._finished[name] += (value * ended).sum(1)
                value[ended] = 0
            self._finished["episodes"] += episodes

    def drain(self) -> dict[str, float]:
        """Means over the episodes finished since the last call; empty if there were none."""
        episodes = self._finished["episodes"].copy()
        if not episodes.any():
            return {}
        seen = episodes > 0
        mean = {name: self._finished[name][seen] / episodes[seen] for name in ("reward", "length", "success")}
        for total in self._finished.values():
            total[:] = 0
        out = {
            "rollout/ep_rew_mean": float(mean["reward"].mean()),
            "rollout/ep_len_mean": float(mean["length"].mean()),
            "rollout/success_rate": float(mean["success"].mean()),
        }
        names = [task for task, any_episode in zip(self._task_names, seen) if any_episode]
        out |= {f"rollout/success/{task}": float(value) for task, value in zip(names, mean["success"])}
        return out

    def restart(self) -> None:
        """Forget the episodes in progress."""
        for value in self._running.values():
            value[:] = 0

    def state_dict(self) -> dict[str, Any]:
        arrays = {f"running_{k}": v for k, v in self._running.items()}
        arrays |= {f"finished_{k}": v for k, v in self._finished.items()}
        arrays["recent_success"] = self.recent_success
        return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for prefix, arrays in (("running", self._running), ("finished", self._finished)):
            for name, array in arrays.items():
                array[:] = state[f"{prefix}_{name}"].numpy()
        self.recent_success[:] = state["recent_success"].numpy()
