"""What MTSAC's update is told of the settings that a user gives."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from mtrl.agents.agent import EnvSpec
from mtrl.agents.aggregators import positive_loss_free
from mtrl.agents.common import make_network, refuse_aggregator, update_dtype
from mtrl.agents.curricula import CURRICULA
from mtrl.agents.errors import AgentError
from mtrl.agents.networks.ties import make_ties
from mtrl.agents.optim.adam import AdamSettings
from mtrl.agents.optim.shares import (
    refuse_masks,
    refuse_shares,
    refuse_weights,
    task_preferences,
)
from mtrl.agents.optim.task_gradients import Reduction
from mtrl.agents.policies import ActorCriticPolicy, Categorical, SquashedGaussian, action_mask
from mtrl.agents.sac.registry import VALUES
from mtrl.agents.sac.settings import MTSACConfig
from mtrl.agents.sac.update import SACSettings

ENTROPY_SHARE = 0.3  # of the entropy of acting at random, for discrete actions


def check(config: MTSACConfig) -> None:
    """Raise AgentError for a curriculum or a gradient method that MTSAC does not go with."""
    curriculum = CURRICULA.make(config.curriculum).info
    if curriculum.paces:
        raise AgentError(
            f"curriculum: {curriculum.name!r} lets tasks pause, which MTSAC does not offer; use mtppo"
        )
    refuse_aggregator(config.heads, config.precision, config.aggregators)
    refuse_shares(curriculum, config.aggregators)
    if config.temperature_weights:
        if config.heads == "separate":
            raise AgentError(
                "temperature_weights: with heads=separate no task's loss meets another's; use heads=multi-head"
            )
        refuse_weights("temperature_weights", config.aggregators)
    refuse_masks(config.networks, config.aggregators)
    _check_scaling(config)
    if config.aggregators[0].info.needs_positive_loss:
        raise AgentError(
            f"actor_aggregator: {config.aggregators[0].info.name!r} takes logarithms or ratios of losses, and SAC's "
            f"actor loss changes sign; give the actor one of {', '.join(positive_loss_free())}"
        )


def _check_scaling(config: MTSACConfig) -> None:
    """Raise AgentError for values, resets and scales of rewards that do not go together."""
    if config.reset_updates and not config.resets:
        raise AgentError("reset_updates: there is no reset; set resets too")
    if config.reward_scale.kind == "balance" and not config.resets:
        raise AgentError("reward_scale: 'balance' changes at resets; set resets too")
    if config.shared_alpha and config.heads == "separate":
        raise AgentError(
            "shared_alpha: tasks with agents of their own share no temperature; use multi-head or one-hot"
        )
    if not config.resets:
        return
    curriculum = CURRICULA.make(config.curriculum).info
    if curriculum.couples:
        raise AgentError(
            f"resets: curriculum {curriculum.name!r} couples tasks from one origin, which a reset would lose; use 0"
        )
    if any(body.phases for body in config.networks):
        raise AgentError("resets: the network has phases of its own; use 0")


def sac_settings(config: MTSACConfig, spec: EnvSpec, device: torch.device) -> SACSettings:
    """The update's settings for ``config`` in an environment of ``spec``."""
    one_hot = config.heads == "one-hot"
    num_tasks = 1 if config.heads == "separate" else spec.num_tasks
    num_heads = num_tasks if config.heads == "multi-head" else 1
    track = CURRICULA.make(config.curriculum).info.gramian
    columns = spec.num_tasks if one_hot else 0
    separate = config.heads == "separate"
    policy: ActorCriticPolicy = SquashedGaussian(spec)
    value = VALUES.make(config.value)
    critic_inputs, critic_outputs = spec.action_dim, value.num_outputs
    if spec.discrete:
        policy = Categorical(action_mask(spec, device, separate))
        critic_inputs, critic_outputs = 0, spec.action_dim * value.num_outputs
    make = partial(
        make_network,
        spec,
        width=config.width,
        depth=config.depth,
        num_tasks=num_tasks,
        num_heads=num_heads,
        channels=config.channels,
    )
    actor_body, critic_body = config.networks
    actor = make(actor_body, extra=columns, out_dim=policy.num_outputs, follows=True)
    critic = make(critic_body, extra=columns, actions=critic_inputs, out_dim=critic_outputs)
    lead = (-1, 1, 1) if separate else (1, -1, 1)
    return SACSettings(
        actor=actor,
        critic=critic,
        actor_tasks=Reduction(
            actor,
            config.aggregators[0],
            num_tasks,
            track=track,
            diagnose=config.gradient_diagnostics,
            preferences=task_preferences(config.aggregators[0], spec.task_names),
        ),
        critic_tasks=Reduction(
            critic,
            config.aggregators[1],
            num_tasks,
            twins=2,
            track=track,
            diagnose=config.gradient_diagnostics,
            preferences=task_preferences(config.aggregators[1], spec.task_names),
        ),
        num_tasks=num_tasks,
        one_hot=one_hot,
        policy=policy,
        gamma=config.gamma,
        tau=config.tau,
        max_target=_max_target(config),
        target_entropy=_target_entropy(config, spec, lead, device),
        max_grad_norm=config.max_grad_norm,
        clip_apart=config.clip_apart,
        adam=AdamSettings(
            config.learning_rate, config.adam_eps, weight_decay=config.weight_decay
        ),
        dtype=update_dtype(config.precision, config.aggregators, device),
        ties=make_ties(actor, critic),
        temperature_weights=config.temperature_weights,
        value=value,
        target_twins=config.target_twins,
        actor_twins=config.actor_twins,
        shared_alpha=config.shared_alpha,
    )


def _max_target(config: MTSACConfig) -> float | None:
    """No return is larger; None where there is no limit."""
    if config.max_reward is None or config.gamma == 1:
        return None
    # The limit is of rewards as the environment gives them, and atoms are a limit of their own.
    if config.reward_scale.kind != "none" or config.value.kind != "scalar":
        return None
    return config.max_reward / (1 - config.gamma)


def _target_entropy(
    config: MTSACConfig, spec: EnvSpec, lead: tuple[int, int, int], device: torch.device
) -> float | Tensor:
    usual = ENTROPY_SHARE if spec.discrete else -float(spec.action_dim)
    target = config.target_entropy
    if target is None:
        target = usual
    elif isinstance(target, str):
        target = usual / 2
    if not spec.discrete:
        return target
    share = target
    if not 0 <= share <= 1:
        raise AgentError(
            f"target_entropy: {share} is out of range; for discrete actions it must lie in [0, 1]"
        )
    return entropy_targets(spec.num_actions, share).to(device).view(lead)


def entropy_targets(num_actions: tuple[int, ...], fraction: float) -> Tensor:
    """``fraction log |A_t|`` in nats, ``[T]``: a share of the entropy of acting at random."""
    return fraction * torch.tensor(num_actions, dtype=torch.float32).log()


def member_settings(settings: SACSettings, task: int) -> SACSettings:
    """The settings of one task's agent among those of all."""
    target = settings.target_entropy
    if isinstance(target, Tensor):
        target = target[task : task + 1]
    return replace(settings, policy=settings.policy.of_task(task), target_entropy=target)
