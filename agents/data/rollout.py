"""What on-policy agents learn from: the transitions of one rollout, task-major."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor


class Rollout(NamedTuple):
    """``L`` consecutive vector steps of ``E`` environments a task; ``S`` is the axis of seeds.

    ``obs`` and ``next_obs`` ``[S, T, L, E, D]`` float32, or uint8 for categories (``next_obs`` is the true one, also
    where an episode ended); ``action``
    ``[S, T, L, E, A]`` float32, or ``[S, T, L, E]`` int64 for discrete actions; ``reward``, ``terminated`` and ``done``
    (terminated or truncated; 0 or 1) ``[S, T, L, E]`` float32. For agents with memory, ``start`` (bool, whether ``obs``
    is the first of its episode) and ``memory`` ``[S, T, L, E, H]``, the state before each step.

    Where tasks pause, ``fresh`` (bool ``[S, T]``) says which rows are of this round; the others are those of an earlier
    one, whose policy gave their actions ``log_prob`` ``[S, T, L, E]``. ``prepare`` writes ``log_prob`` of fresh rows.
    """

    obs: Tensor
    next_obs: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    done: Tensor
    start: Tensor | None = None
    memory: Tensor | None = None
    fresh: Tensor | None = None
    log_prob: Tensor | None = None

    def renewed(self, last: Rollout | None, fresh: Tensor) -> Self:
        """This rollout where ``fresh`` ``[T]``, elsewhere ``last``, both of one seed and without these two fields."""
        log_prob = torch.empty_like(self.reward) if last is None else last.log_prob
        own = self._replace(fresh=fresh.unsqueeze(0), log_prob=log_prob)
        if last is None:
            return own
        for field, kept in zip(self, last):
            if field is not None and kept is not None:
                field[:, ~fresh] = kept[:, ~fresh]
        return own


class RolloutBuffer:
    """Room on the host for the vector steps of one seed's rollout, moved to the device all at once.

    Args:
        shape: ``(T, L, E)``.
        action_dim: None for discrete actions.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        obs_dim: int,
        action_dim: int | None,
        obs_dtype: DTypeLike,
    ) -> None:
        tasks, length, envs = self._shape = shape
        rows = (length, tasks * envs)
        obs, next_obs = (np.empty((*rows, obs_dim), obs_dtype) for _ in range(2))
        action = (
            np.empty(rows, np.int64)
            if action_dim is None
            else np.empty((*rows, action_dim), np.float32)
        )
        self._fields = (obs, next_obs, action, *(np.empty(rows, np.float32) for _ in range(3)))
        self._before: list[tuple[Tensor, ...]] = []

    def add(self, step: int, *transition: NDArray, before: tuple[Tensor, ...] = ()) -> None:
        """Store one vector step: ``obs`` to ``done`` as ``Rollout`` has them, with ``num_envs = T E`` rows each, and
        for agents with memory ``start`` and ``memory``, on the device."""
        for field, value in zip(self._fields, transition, strict=True):
            field[step] = value
        if before:
            self._before.append(before)

    def rollout(self, device: torch.device) -> Rollout:
        tasks, length, envs = self._shape
        fields = [torch.from_numpy(field).to(device) for field in self._fields]
        fields += [torch.stack(field) for field in zip(*self._before)]
        by_task = (
            field.view(length, tasks, envs, *field.shape[2:]).transpose(0, 1) for field in fields
        )
        return Rollout(*(field.contiguous().unsqueeze(0) for field in by_task))
