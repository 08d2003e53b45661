"""Factors of the tasks' rewards that follow what was collected: stored as they are, rewards are scaled in batches."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from mtrl.agents.data.replay import ReplayBuffer
from mtrl.agents.settings import NonNegative, Positive, settings

State = dict[str, Tensor]
PER_TASK = ("largest", "factor")
"""What a state knows of tasks ``[T]``, which stays where episodes start afresh."""


class RewardScale(ABC):
    """Gives factors of rewards from a state of tensors on the agent's device; not asked where it has no state."""

    def init(self, num_tasks: int, envs_per_task: int, device: torch.device) -> State:
        """The state before anything is collected."""
        return {}

    def observe(self, state: State, reward: Tensor, done: Tensor, gamma: float) -> State:
        """The state after a vector step with ``reward`` and ``done`` ``[T, E]``."""
        return state

    def restart(self, state: State, buffer: ReplayBuffer) -> State:
        """The state after networks started afresh."""
        return state

    @abstractmethod
    def factors(self, state: State, entropy: Tensor) -> Tensor:
        """Factors ``[T]`` of the rewards.

        Args:
            entropy: ``[T]``, the part of a value that the entropy bonus makes up at its target.
        """


@settings
class Plain(RewardScale):
    """Rewards as they are."""

    def factors(self, state: State, entropy: Tensor) -> Tensor:
        return torch.ones_like(entropy)


@settings
class ReturnScale(RewardScale):
    """Divides a task's rewards so that its largest discounted return lies at ``bound`` (BRC, Nauman et al. 2025).

    The return is that of an episode so far, ``G ← r + γ G``, as it is known while it lasts.
    """

    bound: Positive = 10.0
    """Where the largest return lies, so the largest atom of a categorical critic."""
    least: Positive = 0.01
    """Least number that rewards are divided by, for tasks without rewards."""

    def init(self, num_tasks: int, envs_per_task: int, device: torch.device) -> State:
        return {
            "running": torch.zeros(num_tasks, envs_per_task, device=device),
            "largest": torch.zeros(num_tasks, device=device),
        }

    def observe(self, state: State, reward: Tensor, done: Tensor, gamma: float) -> State:
        running = reward + gamma * state["running"]
        largest = torch.maximum(state["largest"], running.abs().amax(1))
        return {"running": running * ~done, "largest": largest}

    def factors(self, state: State, entropy: Tensor) -> Tensor:
        return self.bound / (state["largest"] + entropy).clamp_min(self.least)


@settings
class RewardBalance(RewardScale):
    """Multiplies a task's rewards by how much larger the best task's mean reward is, at each reset (ARS).

    The mean is over the replay buffer. Before the first reset rewards are as they are.
    """

    least: NonNegative = 0.01
    """Least mean reward of a task that the best one's is divided by."""

    def init(self, num_tasks: int, envs_per_task: int, device: torch.device) -> State:
        return {"factor": torch.ones(num_tasks, device=device)}

    def restart(self, state: State, buffer: ReplayBuffer) -> State:
        mean = buffer.mean_reward()
        factor = mean.max() / mean.clamp_min(self.least)
        # Where all tasks fail, the best of them is none to catch up with.
        return {"factor": torch.where(mean.max() > 0, factor, torch.ones_like(factor))}

    def factors(self, state: State, entropy: Tensor) -> Tensor:
        return state["factor"]
