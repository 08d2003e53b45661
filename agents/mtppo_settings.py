"""The settings of MTPPO as a user gives them, and what the update is told of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self, get_args

import torch

from mtrl.agents.actions import action_mask
from mtrl.agents.aggregators import Aggregator, parse_aggregator, positive_loss_free
from mtrl.agents.base import AgentConfig, EnvSpec
from mtrl.agents.common import (
    make_network,
    refuse_aggregator,
    update_dtype,
)
from mtrl.agents.curricula import parse_curriculum
from mtrl.agents.curricula.base import Heads
from mtrl.agents.errors import AgentError
from mtrl.agents.optim import AdamSettings
from mtrl.agents.ppo import PPOSettings
from mtrl.agents.task_gradients import Reduction

Activation = Literal["relu", "tanh", "layer_norm"]
CHOICES = {
    "heads": get_args(Heads),
    "actor_activation": ("relu", "tanh", "layer_norm"),
    "critic_activation": ("relu", "tanh", "layer_norm"),
    "memory": ("none", "gru"),
    "deterministic_action": ("mode", "mean"),
    "schedule": ("linear", "constant"),
    "precision": ("auto", "bf16", "fp32"),
}


@dataclass(frozen=True)
class MTPPOConfig(AgentConfig):
    """Settings of MTPPO. Raises AgentError for values outside their range."""

    heads: Heads = "multi-head"
    """One linear head per task on a shared trunk, or the task appended to the input as a one-hot code; the critic has a
    head per task in either case, since each has its own value scale. Or separate: an agent of its own for every task,
    trained as one batched update; only the running scale of observations is common to them."""
    width: int = 400
    """Units per hidden layer, in actor and critic."""
    depth: int = 2
    """Hidden layers."""
    channels: int = 32
    """Features of the convolution over a MiniGrid view, and of the one over its mission."""
    memory: Literal["none", "gru"] = "none"
    """Recurrent memory of actor and critic, each of `width` units, on MiniGrid."""
    sequence: int = 25
    """Steps through which gradients flow in memory; must divide the steps of an environment in a rollout."""
    actor_activation: Activation = "tanh"
    """Nonlinearity of the actor; layer_norm is LayerNorm, then ReLU."""
    critic_activation: Activation = "layer_norm"
    """Nonlinearity of the critic."""
    deterministic_action: Literal["mode", "mean"] = "mode"
    """What deterministic prediction takes of continuous actions: the Gaussian's mode, clipped to the bounds, or the
    mean of the clipped Gaussian, which is what training acts with on average."""
    initial_std: float = 1.0
    """Initial standard deviation of continuous actions, on the scale where the bounds are -1 and 1."""
    noise_correlation: float = 0.4
    """Correlation of successive exploration noise of continuous actions, in [0, 1): an environment's noise is an AR(1)
    process, so that actions push in one direction for a while; 0 is independent noise. Follows the schedule."""
    noise_until: float | None = None
    """Share of a linear schedule after which noise is independent, the correlation being constant before; none lets it
    fall with the schedule."""
    noise_by_failure: bool = False
    """Whether the correlation also shrinks with each task's recent success rate, to 0 at 1."""
    learning_rate: float = 5e-4
    """Adam step size of actor and critic. Follows the schedule."""
    std_learning_rate: float = 5e-4
    """Adam step size of the logarithms of standard deviations. Follows the schedule."""
    schedule: Literal["linear", "constant"] = "linear"
    """Linear lets step sizes and noise correlation fall to 0 over the env steps asked of learn."""
    adam_eps: float = 1e-5
    """Adam epsilon."""
    max_grad_norm: float = 1.0
    """Gradient norm clip of actor and critic, each as a whole."""
    gamma: float = 0.99
    """Discount per env step."""
    gae_lambda: float = 0.97
    """Decay of the advantage estimates (GAE)."""
    clip: float = 0.2
    """Range of the probability ratio around 1."""
    entropy_coef: float = 5e-3
    """Weight of the entropy bonus."""
    rollout_per_task: int = 4_000
    """Env steps per task between updates; a multiple of the environments per task."""
    epochs: int = 10
    """Passes over a rollout."""
    minibatches: int = 20
    """Minibatches, so optimizer steps, per pass."""
    kl_stop: float | None = 0.03
    """Passes end after one whose mean divergence from the old policy exceeds this; none never stops early."""
    normalize_advantages: bool = True
    """Whether to scale each task's advantages of a rollout to mean 0 and standard deviation 1."""
    advantage_floor: float = 0.0
    """Least standard deviation, in units of reward, that advantages are divided by; 0 is none. Without rewards they are
    errors of the critic alone, which scaled up to 1 teach a policy to stop exploring."""
    popart_step: float | None = 0.3
    """Share of a rollout in the running value scale of its task; 0 is the mean over all rollouts, none is no scale."""
    normalize_obs: bool = True
    """Whether to scale observations by their running mean and standard deviation; categories (MiniGrid) never are."""
    aggregator: str = "mean"
    """How task gradients become one: a method, with parameters after a colon, such as cagrad:c=0.9,every=4."""
    actor_aggregator: str | None = None
    """Overrides `aggregator` for the actor."""
    critic_aggregator: str | None = None
    """Overrides `aggregator` for the critic."""
    curriculum: str = "uniform"
    """Which tasks train when, with what share: a curriculum, with parameters after a colon, as in mrcl:window=5."""
    gradient_diagnostics: bool = False
    """Whether to log how task gradients relate in each update: cosines (an image), conflicts, conditioning, gains."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Format of the trunks' matrix products in updates; auto is bf16 where the hardware multiplies it natively."""

    def __post_init__(self) -> None:
        for name in ("width", "depth", "channels", "sequence", "rollout_per_task", "epochs", "minibatches"):
            if getattr(self, name) < 1:
                raise AgentError(f"{name}: {getattr(self, name)} is too small; it must be at least 1")
        for name in (
            "initial_std",
            "learning_rate",
            "std_learning_rate",
            "adam_eps",
            "max_grad_norm",
            "clip",
            "kl_stop",
        ):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise AgentError(f"{name}: {value} is out of range; it must be greater than 0")
        for name in ("gamma", "gae_lambda", "popart_step", "noise_until"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise AgentError(f"{name}: {value} is out of range; it must lie in [0, 1]")
        if not 0 <= self.noise_correlation < 1:
            raise AgentError(f"noise_correlation: {self.noise_correlation} is out of range; it must lie in [0, 1)")
        for name in ("entropy_coef", "advantage_floor"):
            if not getattr(self, name) >= 0:
                raise AgentError(f"{name}: {getattr(self, name)} is negative; it must be at least 0")
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise AgentError(f"{name}: {getattr(self, name)!r} is unknown; use one of {', '.join(allowed)}")
        if self.noise_until is not None and self.schedule == "constant":
            raise AgentError(f"noise_until: {self.noise_until} never comes on a constant schedule; use schedule=linear")
        if self.memory != "none" and self.heads == "separate":
            raise AgentError(f"memory: {self.memory!r} is not offered with heads=separate; use multi-head or one-hot")
        most, what = self.rollout_per_task, "samples"
        if self.memory != "none":
            most, what = most // self.sequence, "sequences"
        if self.minibatches > most:
            raise AgentError(f"minibatches: {self.minibatches} is too large; a rollout has {most} {what} per task")

    def brief(self, envs_per_task: int) -> Self:
        """Rollouts of about one minibatch, with as many passes."""
        length = 1 if self.memory == "none" else self.sequence
        steps = max(self.rollout_per_task // envs_per_task // self.minibatches // length, 1) * length
        return replace(self, rollout_per_task=steps * envs_per_task, minibatches=1)

    @property
    def aggregators(self) -> tuple[Aggregator, Aggregator]:
        """The gradient methods of actor and critic."""
        actor, critic = (name or self.aggregator for name in (self.actor_aggregator, self.critic_aggregator))
        return parse_aggregator(actor), parse_aggregator(critic)


def ppo_settings(config: MTPPOConfig, spec: EnvSpec, device: torch.device) -> PPOSettings:
    """The update's settings for ``config`` in an environment of ``spec``."""
    one_hot, separate = config.heads == "one-hot", config.heads == "separate"
    num_tasks = 1 if separate else spec.num_tasks
    num_heads = num_tasks if config.heads == "multi-head" else 1
    size = (spec.num_tasks if one_hot else 0, config.width, config.depth)
    encoder = (config.channels, config.memory)
    track = parse_curriculum(config.curriculum).info.gramian
    mask = action_mask(spec, device)
    actor = make_network(spec, *size, spec.action_dim, num_heads, config.actor_activation, *encoder)
    critic = make_network(spec, *size, 1, num_tasks, config.critic_activation, *encoder)
    actor_aggregator, critic_aggregator = aggregators = config.aggregators
    refuse_aggregator(config.heads, config.precision, aggregators)
    if actor_aggregator.info.needs_positive_loss:
        raise AgentError(
            f"actor_aggregator: {actor_aggregator.info.name!r} takes logarithms or ratios of losses, and PPO's actor "
            f"loss changes sign; give the actor one of {', '.join(positive_loss_free())}"
        )
    return PPOSettings(
        actor=actor,
        critic=critic,
        actor_tasks=Reduction(actor, actor_aggregator, num_tasks, track=track, diagnose=config.gradient_diagnostics),
        critic_tasks=Reduction(critic, critic_aggregator, num_tasks, track=track, diagnose=config.gradient_diagnostics),
        num_tasks=num_tasks,
        one_hot=one_hot,
        action_mask=None if mask is None else mask.unsqueeze(1 if separate else 0),
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip=config.clip,
        entropy_coef=config.entropy_coef,
        max_grad_norm=config.max_grad_norm,
        kl_stop=config.kl_stop,
        normalize_advantages=config.normalize_advantages,
        advantage_floor=config.advantage_floor,
        popart_step=config.popart_step,
        adam=AdamSettings(config.learning_rate, config.adam_eps),
        std_rate=config.std_learning_rate / config.learning_rate,
        dtype=update_dtype(config.precision, aggregators, device),
        sequence=config.sequence if config.memory != "none" else 0,
    )
