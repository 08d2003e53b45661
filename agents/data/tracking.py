"""Running means for the log: of losses on the device, and of finished episodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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

    def drain(self) -> dict[str, float]:
        """Means since the last call: ``train/<name>`` and, for per-task metrics, also ``train/<name>/<task>``.

        Raises:
            DivergedError: a mean is not finite.
        """
        out: dict[str, float] = {}
        for name, total in self._sums.items():
            count = self._counts[name]
            seen = count > 0
            sums = total[0].double().cpu().numpy()
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


class EpisodeTracker:
    """Return, length and any-step success of training episodes, per environment, summarized per task.

    Keys follow Stable-Baselines3: ``rollout/ep_rew_mean``, ``rollout/ep_len_mean``, ``rollout/success_rate``, and
    ``rollout/success/<task>``. These come from the exploring policy and are no evaluation.

    Attributes:
        recent_success: ``[T]``, success rate with episodes weighted down by 0.9 for each newer one, from 0.
        recent_return: ``[T]``, return weighted the same way, from the first episode's.
        episodes: ``[T]``, episodes finished so far.
    """

    _RECENT = ("recent_success", "recent_return", "episodes")

    def __init__(self, task_names: Sequence[str], envs_per_task: int) -> None:
        self._task_names = task_names
        num_tasks = len(task_names)
        # One array for all three, so that a step ends episodes in one product; the names are views of it.
        self._sums = np.zeros((3, num_tasks, envs_per_task))
        self._totals = np.zeros((3, num_tasks))
        names = ("reward", "length", "success")
        self._running: dict[str, NDArray] = dict(zip(names, self._sums))
        self._finished: dict[str, NDArray] = dict(zip(names, self._totals))
        self._finished["episodes"] = np.zeros(num_tasks)
        self.recent_success = np.zeros(num_tasks)
        self.recent_return = np.zeros(num_tasks)
        self.episodes = np.zeros(num_tasks)

    def add(
        self,
        reward: NDArray,
        success: NDArray,
        done: NDArray,
        active: NDArray[np.bool_] | None = None,
    ) -> None:
        """Account for one vector step, with ``[num_envs]`` each; ``active`` ``[T]`` says which tasks made it."""
        running = self._running
        shape = running["reward"].shape
        running["reward"] += reward.reshape(shape)
        running["length"] += 1 if active is None else active[:, None]
        np.maximum(running["success"], success.reshape(shape), out=running["success"])
        if done.any():
            self._finish(done.reshape(shape))

    def _finish(self, ended: NDArray[np.bool_]) -> None:
        """Account for the episodes that ended in this step, ``[T, E]``."""
        episodes = ended.sum(1)
        totals = (self._sums * ended).sum(2)
        self._sums[:, ended] = 0
        self._totals += totals
        self._finished["episodes"] += episodes
        score, _, rate = totals / np.maximum(episodes, 1)
        share = 1 - 0.9**episodes
        self.recent_success += share * (rate - self.recent_success)
        # A return has no natural start, so the first episodes set it; success starts from 0.
        first = (self.episodes == 0) & (episodes > 0)
        weight = np.where(first, 1.0, share)
        self.recent_return += weight * (score - self.recent_return)
        self.episodes += episodes

    def drain(self) -> dict[str, float]:
        """Means over the episodes finished since the last call; empty if there were none."""
        episodes = self._finished["episodes"].copy()
        if not episodes.any():
            return {}
        seen = episodes > 0
        mean = {}
        for name in ("reward", "length", "success"):
            mean[name] = self._finished[name][seen] / episodes[seen]
        for total in self._finished.values():
            total[:] = 0
        out = {
            "rollout/ep_rew_mean": float(mean["reward"].mean()),
            "rollout/ep_len_mean": float(mean["length"].mean()),
            "rollout/success_rate": float(mean["success"].mean()),
        }
        names = [task for task, finished in zip(self._task_names, seen) if finished]
        for task, value in zip(names, mean["success"]):
            out[f"rollout/success/{task}"] = float(value)
        return out

    def restart(self) -> None:
        """Forget the episodes in progress."""
        for value in self._running.values():
            value[:] = 0

    def state_dict(self) -> dict[str, Any]:
        arrays = {f"running_{k}": v for k, v in self._running.items()}
        arrays |= {f"finished_{k}": v for k, v in self._finished.items()}
        arrays |= {name: getattr(self, name) for name in self._RECENT}
        return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        groups = {"running": self._running, "finished": self._finished}
        for prefix, arrays in groups.items():
            for name, array in arrays.items():
                array[:] = state[f"{prefix}_{name}"].numpy()
        for name in self._RECENT:
            getattr(self, name)[:] = state[name].numpy()
