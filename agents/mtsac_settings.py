"""The settings of MTSAC as a user gives them, and what the update is told of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self, get_args

import torch
from torch import Tensor

from mtrl.agents.actions import action_mask, make_actions
from mtrl.agents.aggregators import Aggregator, parse_aggregator, positive_loss_free
from mtrl.agents.base import AgentConfig, EnvSpec
from mtrl.agents.common import (
    make_network,
    refuse_aggregator,
    update_dtype,
)
from mtrl.agents.curricula import parse_curriculum
from mtrl.agents.curricula.base import Heads
from mtrl.agents.discrete_sac import entropy_targets
from mtrl.agents.errors import AgentError
from mtrl.agents.optim import AdamSettings
from mtrl.agents.sac import SACSettings
from mtrl.agents.task_gradients import Reduction

ENTROPY_SHARE = 0.3  # of the entropy of acting at random, for discrete actions


@dataclass(frozen=True)
class MTSACConfig(AgentConfig):
    """Settings of MTSAC. Raises AgentError for values outside their range."""

    heads: Heads = "multi-head"
    """One linear head per task on a shared trunk; one head with the task appended to the input as a one-hot code; or
    separate, an agent of its own for every task, all trained as one batched update."""
    width: int = 400
    """Units per hidden layer, in actor and critics."""
    depth: int = 3
    """Hidden layers."""
    channels: int = 32
    """Features of the convolution over a MiniGrid view, and of the one over its mission."""
    learning_rate: float = 3e-4
    """Adam step size of actor, critics and temperatures."""
    adam_eps: float = 1e-5
    """Adam epsilon."""
    max_grad_norm: float | None = 1.0
    """Gradient norm clip of actor and critics (each as a whole), null for none; the temperatures are not clipped."""
    gamma: float = 0.99
    """Discount per env step."""
    tau: float = 0.005
    """Share of the critic mixed into the target critic at each update."""
    max_reward: float | None = None
    """Largest size of a reward: the critics' targets are kept within max_reward / (1 - gamma). Null for no bound."""
    initial_alpha: float = 1.0
    """Initial entropy temperature of every task."""
    target_entropy: float | None = None
    """Entropy target of every task in nats; None is minus the number of action dimensions (-4 on Meta-World). For
    discrete actions it is a share of the entropy of acting at random, in [0, 1]; None is 0.3."""
    batch_per_task: int = 128
    """Transitions per task in a batch."""
    buffer_per_task: int = 100_000
    """Transitions per task that the replay buffer holds."""
    learning_starts: int = 4_000
    """Env steps per task taken with random actions before the first update."""
    utd_ratio: float = 1.0
    """Updates per vector step; below 1 some vector steps have none."""
    aggregator: str = "mean"
    """How task gradients become one: a method, with parameters after a colon, such as cagrad:c=0.9,every=4."""
    actor_aggregator: str | None = None
    """Overrides `aggregator` for the actor."""
    critic_aggregator: str | None = None
    """Overrides `aggregator` for the critics."""
    curriculum: str = "uniform"
    """Which tasks train when, with what share: a curriculum, with parameters after a colon, as in mrcl:window=5."""
    gradient_diagnostics: bool = False
    """Whether to log how task gradients relate in each update: cosines (an image), conflicts, conditioning, gains."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Format of the trunks' matrix products; auto is bf16 where the hardware multiplies it natively."""

    def __post_init__(self) -> None:
        for name in ("width", "depth", "channels", "batch_per_task", "buffer_per_task"):
            if getattr(self, name) < 1:
                raise AgentError(f"{name}: {getattr(self, name)} is too small; it must be at least 1")
        for name in ("learning_rate", "adam_eps", "max_grad_norm", "max_reward", "initial_alpha", "utd_ratio"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise AgentError(f"{name}: {getattr(self, name)} is out of range; it must be greater than 0")
        for name in ("gamma", "tau"):
            if not 0 <= getattr(self, name) <= 1:
                raise AgentError(f"{name}: {getattr(self, name)} is out of range; it must lie in [0, 1]")
        if self.learning_starts < 1:
            raise AgentError(f"learning_starts: {self.learning_starts} is too small; it must be at least 1")
        for name, allowed in (("heads", get_args(Heads)), ("precision", ("auto", "bf16", "fp32"))):
            if getattr(self, name) not in allowed:
                raise AgentError(f"{name}: {getattr(self, name)!r} is unknown; use one of {', '.join(allowed)}")
        curriculum = parse_curriculum(self.curriculum).info
        if curriculum.paces:
            raise AgentError(f"curriculum: {curriculum.name!r} lets tasks pause, which MTSAC does not offer; use mtppo")
        refuse_aggregator(self.heads, self.precision, self.aggregators)
        if self.aggregators[0].info.needs_positive_loss:
            raise AgentError(
                f"actor_aggregator: {self.aggregators[0].info.name!r} takes logarithms or ratios of losses, and SAC's "
                f"actor loss changes sign; give the actor one of {', '.join(positive_loss_free())}"
            )

    def brief(self, envs_per_task: int) -> Self:
        """As most of a run goes: with updates from the start."""
        return replace(self, learning_starts=1)

    @property
    def aggregators(self) -> tuple[Aggregator, Aggregator]:
        """The gradient methods of actor and critic."""
        actor, critic = (name or self.aggregator for name in (self.actor_aggregator, self.critic_aggregator))
        return parse_aggregator(actor), parse_aggregator(critic)


def sac_settings(config: MTSACConfig, spec: EnvSpec, device: torch.device) -> SACSettings:
    """The update's settings for ``config`` in an environment of ``spec``."""
    one_hot = config.heads == "one-hot"
    num_tasks = 1 if config.heads == "separate" else spec.num_tasks
    num_heads = num_tasks if config.heads == "multi-head" else 1
    track = parse_curriculum(config.curriculum).info.gramian
    columns, sizes = spec.num_tasks if one_hot else 0, (config.width, config.depth)
    mask = action_mask(spec, device)
    outputs = make_actions(spec, device).num_outputs
    actor = make_network(spec, columns, *sizes, outputs, num_heads, channels=config.channels)
    inputs, values = (spec.action_dim, 1) if mask is None else (0, spec.action_dim)
    critic = make_network(spec, columns + inputs, *sizes, values, num_heads, channels=config.channels)
    lead = (-1, 1, 1) if config.heads == "separate" else (1, -1, 1)
    return SACSettings(
        actor=actor,
        critic=critic,
        actor_tasks=Reduction(
            actor, config.aggregators[0], num_tasks, track=track, diagnose=config.gradient_diagnostics
        ),
        critic_tasks=Reduction(
            critic, config.aggregators[1], num_tasks, twins=2, track=track, diagnose=config.gradient_diagnostics
        ),
        num_tasks=num_tasks,
        one_hot=one_hot,
        gamma=config.gamma,
        tau=config.tau,
        max_target=_max_target(config),
        target_entropy=_target_entropy(config, spec, lead, device),
        max_grad_norm=config.max_grad_norm,
        adam=AdamSettings(config.learning_rate, config.adam_eps),
        dtype=update_dtype(config.precision, config.aggregators, device),
        action_mask=None if mask is None else mask.view(*lead, spec.action_dim),
    )


def _max_target(config: MTSACConfig) -> float | None:
    """No return is larger; None where there is no limit."""
    return None if config.max_reward is None or config.gamma == 1 else config.max_reward / (1 - config.gamma)


def _target_entropy(
    config: MTSACConfig, spec: EnvSpec, lead: tuple[int, int, int], device: torch.device
) -> float | Tensor:
    if not spec.discrete:
        return -float(spec.action_dim) if config.target_entropy is None else config.target_entropy
    share = ENTROPY_SHARE if config.target_entropy is None else config.target_entropy
    if not 0 <= share <= 1:
        raise AgentError(f"target_entropy: {share} is out of range; for discrete actions it must lie in [0, 1]")
    return entropy_targets(spec.num_actions, share).to(device).view(lead)


def member_settings(settings: SACSettings, task: int) -> SACSettings:
    """The settings of one task's agent among those of all."""
    if settings.action_mask is None or isinstance(settings.target_entropy, float):
        return settings
    part = slice(task, task + 1)
    return replace(settings, action_mask=settings.action_mask[part], target_entropy=settings.target_entropy[part])
