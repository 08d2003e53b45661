"""What on-policy agents learn from: the transitions of one rollout, task-major."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
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

    @classmethod
    def empty(
        cls,
        shape: tuple[int, int, int],
        obs_dim: int,
        action_dim: int,
        discrete: bool,
        device: torch.device,
        obs_dtype: torch.dtype = torch.float32,
        memory: int = 0,
    ) -> Self:
        """Room for one seed's rollout of ``shape`` ``(T, L, E)``; the contents are arbitrary."""
        lead = (1, *shape)
        obs, next_obs = (torch.empty(*lead, obs_dim, dtype=obs_dtype, device=device) for _ in range(2))
        action = (
            torch.empty(lead, dtype=torch.int64, device=device)
            if discrete
            else torch.empty(*lead, action_dim, device=device)
        )
        reward, terminated, done = (torch.empty(lead, device=device) for _ in range(3))
        if not memory:
            return cls(obs, next_obs, action, reward, terminated, done)
        start, state = torch.empty(lead, dtype=torch.bool, device=device), torch.empty(*lead, memory, device=device)
        return cls(obs, next_obs, action, reward, terminated, done, start, state)

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

    def write(self, step: int, *transition: Tensor) -> None:
        """Store one vector step of one seed: the fields in order, each with leading ``num_envs = T E`` rows."""
        for field, value in zip((field for field in self if field is not None), transition, strict=True):
            tasks, _, envs = field.shape[1:4]
            field[0, :, step] = value.view(tasks, envs, *value.shape[1:])
