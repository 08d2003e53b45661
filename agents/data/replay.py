"""One ring buffer per task, stored as rows so that a batch of every task is a single gather."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from mtrl.agents.data.priorities import SumTree
from mtrl.agents.state import Mark


class Batch(NamedTuple):
    """Transitions, task-major; ``S`` is the axis of seeds. All float32, but see ``ByteReplay``.

    Attributes:
        obs: ``[S, T, b, D]``.
        action: ``[S, T, b, A]``.
        reward: ``[S, T, b]``.
        terminated: ``[S, T, b]``, 0 or 1; truncation is not termination.
        next_obs: ``[S, T, b, D]``.
        weight: ``[S, T, b]``, what a transition counts in the losses; None where all count the same.
        places: ``[S, T, b]`` int64, where it stands in the buffer; None where no priorities are kept.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    next_obs: Tensor
    weight: Tensor | None = None
    places: Tensor | None = None


@dataclass(init=False, eq=False)
class ReplayBuffer:
    """Rings of ``capacity`` transitions for each task, written in lockstep, sampled with the buffer's own generator.

    With ``priorities`` the draw is by them, else uniform.

    ``next_obs`` must be the true next observation (``info["final_obs"]`` where an episode ended).
    """

    dtype = torch.float32
    reward_size = 1  # columns of a reward

    _rows: Annotated[Tensor, Mark(filled="_size")]
    _position: int
    _size: int
    _generator: torch.Generator
    _priorities: SumTree | None

    def __init__(
        self,
        num_tasks: int,
        capacity: int,
        obs_dim: int,
        action_dim: int,
        device: torch.device,
        seed: int,
        priorities: SumTree | None = None,
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
        self._priorities = priorities

    def __len__(self) -> int:
        """Transitions held per task."""
        return self._size

    def add(
        self, obs: Tensor, action: Tensor, reward: Tensor, terminated: Tensor, next_obs: Tensor
    ) -> None:
        """Store ``E`` transitions of every task, each ``[T, E]`` or ``[T, E, dim]``; discrete actions ``[T, E]``."""
        self.write(self.pack(obs, action, reward, terminated, next_obs).to(self._rows.device))

    def write(self, rows: Tensor) -> None:
        """Store what ``pack`` made of transitions, ``[T, E, columns]`` on the buffer's device."""
        start = self._position
        count = rows.shape[1]
        first = min(count, self.capacity - start)
        self._rows[:, start : start + first] = rows[:, :first]
        # What does not fit before the end of the ring goes on at its beginning.
        if first < count:
            self._rows[:, : count - first] = rows[:, first:]
        if self._priorities is not None:
            places = torch.arange(start, start + count, device=self._rows.device)
            self._priorities.add(places % self.capacity)
        self._position = (start + count) % self.capacity
        self._size = min(self._size + count, self.capacity)

    def sample(self, batch_per_task: int, task: int | None = None, beta: float = 0.0) -> Batch:
        """``batch_per_task`` transitions of every task, or of one, with replacement, indices drawn per task.

        Args:
            beta: exponent of the weights, where transitions are drawn by priorities.
        """
        start = self._task
        if task is not None:
            start = self._task[task : task + 1]
        shape = (start.shape[0], batch_per_task)
        index = torch.randint(
            self._size,
            shape,
            generator=self._generator,
            device=self._rows.device,
        )
        weight = None
        if self._priorities is not None:
            index, weight = self._priorities.draw(index, beta, task)
        place = (index + start).flatten()
        rows = self._rows.flatten(0, 1).index_select(0, place)
        columns = rows.view(1, *shape, -1).split(self._sizes, -1)
        batch = self._unpack(*columns)
        if weight is None:
            return batch
        return batch._replace(weight=weight.unsqueeze(0), places=index.unsqueeze(0))

    def prioritise(self, index: Tensor, priority: Tensor, task: int | None = None) -> None:
        """New priorities of the transitions at ``index`` ``[T, b]``, or ``[1, b]`` of one task."""
        assert self._priorities is not None, "transitions are drawn uniformly"
        self._priorities.update(index, priority, task)

    def mean_reward(self) -> Tensor:
        """Mean reward of each task's transitions, ``[T]``."""
        rows = self._rows[:, : self._size]
        columns = rows.split(self._sizes, -1)
        return self._unpack(*columns).reward.mean(1)

    def newest(self, per_task: int) -> tuple[Tensor, Tensor]:
        """The newest observations ``[T, n, D]`` and actions of every task, with n at most ``per_task``."""
        count = min(per_task, self._size)
        first = self._position - count
        steps = torch.arange(first, self._position, device=self._rows.device)
        # Positions before the ring's beginning are negative and wrap to its end.
        newest = steps % self.capacity
        columns = self._rows[:, newest].split(self._sizes, -1)
        batch = self._unpack(*columns)
        return batch.obs, batch.action

    def pack(
        self, obs: Tensor, action: Tensor, reward: Tensor, terminated: Tensor, next_obs: Tensor
    ) -> Tensor:
        """Transitions, as ``add`` takes them, as rows of one type where they live."""
        columns = [
            obs,
            action.view(*reward.shape, -1),
            reward.unsqueeze(-1),
            terminated.unsqueeze(-1),
            next_obs,
        ]
        return torch.cat(columns, -1).to(torch.float32)

    def _unpack(
        self, obs: Tensor, action: Tensor, reward: Tensor, terminated: Tensor, next_obs: Tensor
    ) -> Batch:
        return Batch(
            obs,
            action,
            reward.squeeze(-1),
            terminated.squeeze(-1),
            next_obs,
        )


class ByteReplay(ReplayBuffer):
    """Rings for observations of categories (uint8) and discrete actions below 256.

    A reward is stored as the four bytes of its float32. ``action`` is ``[T, E]`` in ``add``. In batches ``obs`` and
    ``next_obs`` are uint8, and so is ``action``, ``[S, T, b]``.
    """

    dtype = torch.uint8
    reward_size = 4

    def pack(
        self, obs: Tensor, action: Tensor, reward: Tensor, terminated: Tensor, next_obs: Tensor
    ) -> Tensor:
        # Viewed as bytes, not converted: a reward keeps all its bits.
        value = reward.float().contiguous().unsqueeze(-1).view(torch.uint8)
        columns = [
            obs,
            action.to(torch.uint8).unsqueeze(-1),
            value,
            terminated.to(torch.uint8).unsqueeze(-1),
            next_obs,
        ]
        return torch.cat(columns, -1)

    def _unpack(
        self, obs: Tensor, action: Tensor, reward: Tensor, terminated: Tensor, next_obs: Tensor
    ) -> Batch:
        value = reward.contiguous().view(torch.float32).squeeze(-1)
        return Batch(
            obs,
            action.squeeze(-1),
            value,
            terminated.squeeze(-1).float(),
            next_obs,
        )
