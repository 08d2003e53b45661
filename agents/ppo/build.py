"""What MTPPO's update is told of the settings that a user gives."""

from __future__ import annotations

from functools import partial

import torch

from mtrl.agents.agent import EnvSpec
from mtrl.agents.aggregators import positive_loss_free
from mtrl.agents.common import make_network, refuse_aggregator, update_dtype
from mtrl.agents.curricula import CURRICULA
from mtrl.agents.errors import AgentError
from mtrl.agents.networks.ties import make_ties
from mtrl.agents.optim.adam import AdamSettings
from mtrl.agents.optim.shares import refuse_masks, refuse_shares, task_preferences
from mtrl.agents.optim.task_gradients import Reduction
from mtrl.agents.policies import Categorical, Gaussian, RatioPolicy, action_mask
from mtrl.agents.ppo.settings import MTPPOConfig
from mtrl.agents.ppo.update import PPOSettings


def check(config: MTPPOConfig) -> None:
    """Raise AgentError for a gradient method or a round that MTPPO does not go with."""
    actor, critic = config.aggregators
    refuse_aggregator(config.heads, config.precision, (actor, critic))
    refuse_masks(config.networks, (actor, critic))
    curriculum = CURRICULA.make(config.curriculum)
    refuse_shares(curriculum.info, (actor, critic))
    if curriculum.round_steps != CURRICULA[config.curriculum.kind].round_steps:
        raise AgentError(
            f"curriculum: round_steps={curriculum.round_steps} does nothing, since MTPPO begins a round at every "
            "rollout; leave it out, or set rollout_per_task"
        )
    if actor.info.needs_positive_loss:
        raise AgentError(
            f"actor_aggregator: {actor.info.name!r} takes logarithms or ratios of losses, and PPO's actor loss changes "
            f"sign; give the actor one of {', '.join(positive_loss_free())}"
        )


def ppo_settings(config: MTPPOConfig, spec: EnvSpec, device: torch.device) -> PPOSettings:
    """The update's settings for ``config`` in an environment of ``spec``."""
    one_hot, separate = config.heads == "one-hot", config.heads == "separate"
    num_tasks = 1 if separate else spec.num_tasks
    num_heads = num_tasks if config.heads == "multi-head" else 1
    make = partial(
        make_network,
        spec,
        extra=spec.num_tasks if one_hot else 0,
        width=config.width,
        depth=config.depth,
        num_tasks=num_tasks,
        channels=config.channels,
        memory=config.memory,
    )
    track = CURRICULA.make(config.curriculum).info.gramian
    policy: RatioPolicy = Gaussian(spec, config.deterministic_action)
    if spec.discrete:
        policy = Categorical(action_mask(spec, device, separate))
    actor_body, critic_body = config.networks
    actor = make(
        actor_body,
        out_dim=spec.action_dim,
        num_heads=num_heads,
        activation=config.actor_activation,
        follows=True,
    )
    critic = make(
        critic_body,
        out_dim=1,
        num_heads=num_tasks,
        activation=config.critic_activation,
    )
    aggregators = config.aggregators
    actor_aggregator, critic_aggregator = aggregators
    return PPOSettings(
        actor=actor,
        critic=critic,
        actor_tasks=Reduction(
            actor,
            actor_aggregator,
            num_tasks,
            track=track,
            diagnose=config.gradient_diagnostics,
            preferences=task_preferences(actor_aggregator, spec.task_names),
        ),
        critic_tasks=Reduction(
            critic,
            critic_aggregator,
            num_tasks,
            track=track,
            diagnose=config.gradient_diagnostics,
            preferences=task_preferences(critic_aggregator, spec.task_names),
        ),
        num_tasks=num_tasks,
        one_hot=one_hot,
        policy=policy,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip=config.clip,
        entropy_coef=config.entropy_coef,
        max_grad_norm=config.max_grad_norm,
        clip_apart=config.clip_apart,
        kl_stop=config.kl_stop,
        normalize_advantages=config.normalize_advantages,
        advantage_floor=config.advantage_floor,
        popart_step=config.popart_step,
        adam=AdamSettings(
            config.learning_rate, config.adam_eps, weight_decay=config.weight_decay
        ),
        std_rate=config.std_learning_rate / config.learning_rate,
        dtype=update_dtype(config.precision, aggregators, device),
        sequence=config.sequence if config.memory != "none" else 0,
        ties=make_ties(actor, critic),
    )
