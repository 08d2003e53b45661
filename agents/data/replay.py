"""One ring buffer per task, stored as rows so that a batch of every task is a single gather."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Transitions, task-major: ``obs`` and ``next_obs`` ``[S, T, b, D]``, ``action`` ``[S, T, b, A]``, ``reward`` and
    ``terminated`` (0 or 1; truncation is not termination) ``[S, T, b]``; all float32. ``S`` is the axis of seeds.
    From a ``ByteReplay``, ``obs`` and ``next_obs`` are uint8, and so is ``action``, ``[S, T, b]``."""

    obs: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    next_obs: Tensor


class ReplayBuffer:
    """Rings of ``capacity`` transitions for each task, written in lockstep, sampled with the buffer's own generator.

    ``next_obs`` must be the true next observation (``info["final_obs"]`` where an episode ended).
    """

    dtype = torch.float32
    reward_size = 1  # columns of a reward

    def __init__(
        self,
        num_tasks: int,
        capacity: int,
        obs_dim: int,
        action_dim: int,
        device: torch.device,
        seed: int,
    ) -> None:
        self.capacity = capacity
        self._sizes = [obs_dim, action_dim, self.reward_size, 1, obs_dim]
        self._rows = torch.zeros(
            num_tasks, capacity, sum(self._sizes), dtype=self.dtype, device=device
        )
        self._task = torch.arange(num_tasks, device=device).unsqueeze(1) * capacity
        self._position = 0
        self._size = 0
        self._generator = torch.Generator(device).manual_seed(seed)

    def __len__(self) -> int:
        """Transitions held per task."""
        return self._size

    def add(
        self, obs: Tensor, action: Tensor, reward: Tensor, terminated: Tensor, next_obs: Tensor
    ) -> None:
        """Store ``E`` transitions of every task, each ``[T, E]`` or ``[T, E, dim]``; discrete actions ``[T, E]``."""
        rows = self._pack(obs, action, reward, terminated, next_obs).to(self._rows.device)
        start, count = self._position, rows.shape[1]
        first = min(count, self.capacity - start)
        self._rows[:, start : start + first] = rows[:, :first]
        if first < count:
            self._rows[:, : count - first] = rows[:, first:]
        self._position = (start + count) % self.capacity
        self._size = min(self._size + count, self.capacity)

    def sample(self, batch_per_task: int, task: int | None = None) -> Batch:
        """``batch_per_task`` transitions of every task, or of one, uniform with replacement, indices drawn per task."""
        start = self._task if task is None else self._task[task : task + 1]
        shape = (start.shape[0], batch_per_task)
        index = torch.randint(
            self._size, shape, generator=self._generator, device=self._rows.device
        )
        rows = self._rows.flatten(0, 1).index_select(0, (index + start).flatten())
        return self._unpack(*rows.view(1, *shape, -1).split(self._sizes, -1))

    def newest_obs(self, per_task: int) -> Tensor:
        """The newest observations of every task, task after task, ``[T * n, D]`` with n at most ``per_task``."""
        count = min(per_task, self._size)
        newest = (
            torch.arange(self._position - count, self._position, device=self._rows.device)
            % self.capacity
        )
        return self._rows[:, newest, : self._sizes[0]].flatten(0, 1)

    def _pack(
        self, obs: Tensor, action: Tensor, reward: Tensor, terminated: Tensor, next_obs: Tensor
    ) -> Tensor:
        action = action.view(*reward.shape, -1)
        rows = torch.cat(
            [obs, action, reward.unsqueeze(-1), terminated.unsqueeze(-1), next_obs], -1
        )
        return rows.to(torch.float32)

    def _unpack(
        self, obs: Tensor, action: Tensor, reward: Tensor, terminated: Tensor, next_obs: Tensor
    ) -> Batch:
        return Batch(obs, action, reward.squeeze(-1), terminated.squeeze(-1), next_obs)

    def state_dict(self) -> dict[str, Tensor | int]:
        """The filled part of the rings, the write position and the generator."""
        return {
            "rows": self._rows[:, : self._size],
            "position": self._position,
            "size": self._size,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        rows, generator = state["rows"], state["generator"]
        assert isinstance(rows, Tensor) and isinstance(generator, Tensor)
        self._size, self._position = int(state["size"]), int(state["position"])
        self._rows[:, : self._size] = rows.to(self._rows.device)
        self._generator.set_state(generator.cpu())


class ByteReplay(ReplayBuffer):
    """Rings for observations of categories (uint8) and discrete actions below 256; a reward takes its four bytes.

    ``action`` is ``[T, E]`` in ``add`` and ``[S, T, b]`` in batches.
    """

    dtype = torch.uint8
    reward_size = 4

    def _pack(
        self, obs: Tensor, action: Tensor, reward: Tensor, terminated: Tensor, next_obs: Tensor
    ) -> Tensor:
        value = reward.float().contiguous().unsqueeze(-1).view(torch.uint8)
        taken, ended = (part.to(torch.uint8).unsqueeze(-1) for part in (action, terminated))
        return torch.cat([obs, taken, value, ended, next_obs], -1)

    def _unpack(
        self, obs: Tensor, action: Tensor, reward: Tensor, terminated: Tensor, next_obs: Tensor
    ) -> Batch:
        value = reward.contiguous().view(torch.float32).squeeze(-1)
        return Batch(obs, action.squeeze(-1), value, terminated.squeeze(-1).float(), next_obs)
