"""Transitions of one rollout, task-major, from which on-policy agents learn."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtrl.agents.data.arrays import Array, placed
from mtrl.agents.data.transfer import packed_sizes, unpack
from mtrl.agents.errors import AgentError


class Rollout(NamedTuple):
    """``L`` consecutive vector steps of ``E`` environments a task; ``S`` is the axis of seeds.

    Attributes:
        obs: ``[S, T, L, E, D]`` float32, or uint8 for categories.
        next_obs: shaped like ``obs``; the true next observation, also where an episode ended.
        action: ``[S, T, L, E, A]`` float32, or ``[S, T, L, E]`` int64 for discrete actions.
        reward: ``[S, T, L, E]`` float32.
        terminated: ``[S, T, L, E]`` float32, 0 or 1.
        done: terminated or truncated, ``[S, T, L, E]`` float32, 0 or 1.
        start: whether ``obs`` is the first of its episode, bool; only for agents with memory.
        memory: the state before each step, ``[S, T, L, E, H]``; only for agents with memory.
        fresh: bool ``[S, T]``, where tasks pause: true for rows of this round, false for those of an earlier one.
        log_prob: ``[S, T, L, E]``, where tasks pause: of the actions under the policy that took them. ``prepare``
            writes it for fresh rows.
        noise: the uniform numbers that the actor's body drew, ``[S, T, L, E, n]``; None where it draws none.
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
    noise: Tensor | None = None

    def renewed(self, last: Rollout | None, fresh: NDArray[np.bool_]) -> Self:
        """Replace the tasks outside ``fresh`` ``[T]`` by those of ``last``, in place.

        Both rollouts hold one seed. ``fresh`` and ``log_prob`` of this one are not set yet.
        """
        log_prob = torch.empty_like(self.reward) if last is None else last.log_prob
        flags = torch.from_numpy(fresh).to(self.reward.device)
        merged = self._replace(fresh=flags.unsqueeze(0), log_prob=log_prob)
        if last is None:
            return merged
        # Indices, since to select by flags a device would have to say how many there are.
        stale = torch.from_numpy(np.flatnonzero(~fresh)).to(self.reward.device)
        # The fields of ``self``, not of ``merged``: ``log_prob`` is taken from ``last`` as a whole.
        for field, kept in zip(self, last):
            if field is not None and kept is not None:
                field[:, stale] = kept[:, stale]
        return merged


class Memory(NamedTuple):
    """What networks with memory go on from in every environment.

    Attributes:
        start: where an episode begins, bool ``[T E]``.
        state: of actor and critic, ``[T E, 2 H]``.
    """

    start: Tensor
    state: Tensor


def check_rollout(per_task: int, envs: int, sequence: int) -> None:
    """Raise AgentError unless ``per_task`` steps of a task can be taken in ``envs`` environments.

    Args:
        sequence: steps of an environment that stay together; 0 without memory.
    """
    if per_task % envs:
        raise AgentError(
            f"rollout_per_task: {per_task} is not a multiple of the {envs} environments per task"
        )
    steps = per_task // envs
    if sequence and steps % sequence:
        raise AgentError(
            f"sequence: {sequence} does not divide the {steps} steps of an environment in a rollout "
            "(rollout_per_task / envs_per_task)"
        )


class RolloutBuffer:
    """Room for the vector steps of one seed's rollout, moved on all at once.

    Args:
        shape: ``(T, L, E)``.
        action_dim: None for discrete actions.
        obs_type: ``float32``, or ``uint8`` for categories.
        device: where the steps come from, and stay until the rollout is whole; None for arrays of numpy.
        pinned: whether numpy's are page-locked, which a GPU copies without Python waiting.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        obs_dim: int,
        action_dim: int | None,
        obs_type: str,
        device: torch.device | None = None,
        pinned: bool = False,
    ) -> None:
        self._shape, self._pinned = shape, pinned
        tasks, length, envs = shape
        rows = (length, tasks * envs)
        discrete = action_dim is None
        action_shape = rows if action_dim is None else (*rows, action_dim)
        number = torch.float32
        obs_dtype = getattr(torch, obs_type)
        # Shapes and types of obs, next_obs, action, reward, terminated and done, which lie in one block of bytes.
        self._like = [
            torch.empty(shape, dtype=dtype, device="meta")
            for shape, dtype in (
                ((*rows, obs_dim), obs_dtype),
                ((*rows, obs_dim), obs_dtype),
                (action_shape, torch.int64 if discrete else number),
                (rows, number),
                (rows, number),
                (rows, number),
            )
        ]
        self._block = torch.zeros(
            sum(packed_sizes(self._like)), dtype=torch.uint8, device=device, pin_memory=pinned
        )
        self._fields = [placed(part, device) for part in unpack(self._block, self._like)]
        self._before: list[Memory] = []
        self._noise: list[Tensor] = []

    def add(
        self,
        step: int,
        *transition: Array,
        before: Memory | None = None,
        noise: Tensor | None = None,
    ) -> None:
        """Store one vector step.

        Args:
            transition: ``obs`` to ``done`` as ``Rollout`` has them, with ``num_envs = T E`` rows each.
            before: the memory before the step, on the agent's device, for agents with memory.
            noise: what the actor's body drew, ``[T E, n]``.
        """
        for field, value in zip(self._fields, transition, strict=True):
            field[step] = value
        if before is not None:
            self._before.append(before)
        if noise is not None:
            self._noise.append(noise)

    def rollout(self, device: torch.device) -> Rollout:
        tasks, length, envs = self._shape
        block = self._block.to(device, non_blocking=self._pinned)
        fields = unpack(block, self._like)
        fields += [torch.stack(field).to(device) for field in zip(*self._before)]

        def by_task(field: Tensor) -> Tensor:
            steps = field.view(length, tasks, envs, *field.shape[2:])
            return steps.transpose(0, 1).contiguous().unsqueeze(0)

        rollout = Rollout(*map(by_task, fields))
        if not self._noise:
            return rollout
        noise = torch.stack(self._noise).to(device)
        return rollout._replace(noise=by_task(noise))
