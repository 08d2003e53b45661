"""Transitions of one rollout, task-major, from which on-policy agents learn."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

from mtrl.agents.data.arrays import Array, to_tensor, zeros
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

    def renewed(self, last: Rollout | None, fresh: Tensor) -> Self:
        """Replace the tasks outside ``fresh`` ``[T]`` by those of ``last``, in place.

        Both rollouts hold one seed. ``fresh`` and ``log_prob`` of this one are not set yet.
        """
        log_prob = torch.empty_like(self.reward) if last is None else last.log_prob
        merged = self._replace(fresh=fresh.unsqueeze(0), log_prob=log_prob)
        if last is None:
            return merged
        # The fields of ``self``, not of ``merged``: ``log_prob`` is taken from ``last`` as a whole.
        for field, kept in zip(self, last):
            if field is not None and kept is not None:
                field[:, ~fresh] = kept[:, ~fresh]
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
    """Room for the vector steps of one seed's rollout where the environment's arrays live, moved on all at once.

    Args:
        shape: ``(T, L, E)``.
        action_dim: None for discrete actions.
        obs_type: ``float32``, or ``uint8`` for categories.
        device: of the environment's arrays; None for numpy's.
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
        action_type = "int64" if discrete else "float32"
        self._fields = (
            self._room((*rows, obs_dim), device, obs_type),  # obs
            self._room((*rows, obs_dim), device, obs_type),  # next_obs
            self._room(action_shape, device, action_type),  # action
            self._room(rows, device, "float32"),  # reward
            self._room(rows, device, "float32"),  # terminated
            self._room(rows, device, "float32"),  # done
        )
        self._before: list[Memory] = []
        self._noise: list[Tensor] = []

    def _room(self, shape: tuple[int, ...], device: torch.device | None, name: str) -> Array:
        if device is not None or not self._pinned:
            return zeros(shape, device, name)
        return torch.zeros(shape, dtype=getattr(torch, name), pin_memory=True).numpy()

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
        fields = [
            to_tensor(field).to(device, non_blocking=self._pinned) for field in self._fields
        ]
        fields += [torch.stack(field).to(device) for field in zip(*self._before)]

        def by_task(field: Tensor) -> Tensor:
            steps = field.view(length, tasks, envs, *field.shape[2:])
            return steps.transpose(0, 1).contiguous().unsqueeze(0)

        rollout = Rollout(*map(by_task, fields))
        if not self._noise:
            return rollout
        noise = torch.stack(self._noise).to(device)
        return rollout._replace(noise=by_task(noise))
