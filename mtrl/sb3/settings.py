"""The settings of Stable-Baselines3's algorithms, under its own names and with its own defaults."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Self

from pydantic import Field

from mtrl.agents.errors import AgentError
from mtrl.agents.settings import (
    AgentConfig,
    Count,
    Natural,
    NonNegative,
    Number,
    Positive,
    Share,
    Whole,
    settings,
)


@settings
class SB3PPOConfig(AgentConfig):
    """Settings of SB3's PPO under SB3's names, with its defaults. Raises AgentError for values out of range."""

    net_arch: tuple[Count, ...] = (64, 64)
    """Units of the hidden layers, of actor and critic each; tanh between them."""
    learning_rate: Positive = 3e-4
    """Adam step size."""
    n_steps: Count = 2048
    """Env steps per environment between updates."""
    batch_size: Count = 64
    """Samples in a minibatch, of all tasks together."""
    n_epochs: Count = 10
    """Passes over a rollout."""
    gamma: Share = 0.99
    """Discount per env step."""
    gae_lambda: Share = 0.95
    """Decay of the advantage estimates (GAE)."""
    clip_range: Positive = 0.2
    """Range of the probability ratio around 1."""
    clip_range_vf: Positive | None = None
    """Range in which the value may change in an update; none leaves it free."""
    normalize_advantage: bool = True
    """Whether to scale the advantages of a minibatch to mean 0 and standard deviation 1."""
    ent_coef: NonNegative = 0.0
    """Weight of the entropy bonus."""
    vf_coef: NonNegative = 0.5
    """Weight of the value loss."""
    max_grad_norm: Positive = 0.5
    """Gradient norm clip."""
    target_kl: Positive | None = None
    """Epochs end where the divergence from the old policy exceeds 1.5 times this; none never stops early."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.normalize_advantage and self.batch_size < 2:
            raise AgentError(
                f"batch_size: {self.batch_size} is out of range; it must be at least 2"
            )

    def brief(self, envs_per_task: int) -> Self:
        """Short rollouts, in minibatches of the same size, with as many passes."""
        enough = -(-self.batch_size // envs_per_task)  # to fill a minibatch
        return replace(self, n_steps=min(self.n_steps, max(self.n_steps // 16, enough)))


@settings
class SB3SACConfig(AgentConfig):
    """Settings of SB3's SAC under SB3's names, with its defaults. Raises AgentError for values out of range."""

    net_arch: tuple[Count, ...] = (256, 256)
    """Units of the hidden layers, of actor and critics each; ReLU between them."""
    learning_rate: Positive = 3e-4
    """Adam step size of actor, critics and temperature."""
    buffer_size: Count = 1_000_000
    """Transitions that the replay buffer holds, of all tasks together."""
    learning_starts: Natural = 100
    """Env steps, summed over tasks, taken with random actions before the first update."""
    batch_size: Count = 256
    """Transitions in a batch, of all tasks together."""
    tau: Share = 0.005
    """Share of the critic mixed into the target critic."""
    gamma: Share = 0.99
    """Discount per env step."""
    train_freq: Count = 1
    """Vector steps between trainings."""
    gradient_steps: Annotated[Whole, Field(ge=-1)] = 1
    """Updates in each training; -1 is as many as env steps were taken."""
    ent_coef: Positive | None = None
    """Entropy temperature; none learns it, starting from 1."""
    target_entropy: Number | None = None
    """Entropy target in nats where the temperature is learned; none is minus the number of action dimensions."""
    target_update_interval: Count = 1
    """Updates between updates of the target critic, counted anew in each training: above 1 it needs gradient_steps."""

    def brief(self, envs_per_task: int) -> Self:
        """Settings for a short measurement, in which updates begin at once, as they go on in most of a run."""
        return replace(self, learning_starts=0)
