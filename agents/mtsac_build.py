"""What MTSAC's update is told of the settings that a user gives."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mtrl.agents.actions import action_mask, make_actions
from mtrl.agents.aggregators import positive_loss_free
from mtrl.agents.base import EnvSpec
from mtrl.agents.common import make_network, refuse_aggregator, update_dtype
from mtrl.agents.curricula import CURRICULA
from mtrl.agents.discrete_sac import entropy_targets
from mtrl.agents.errors import AgentError
from mtrl.agents.mtsac_settings import MTSACConfig
from mtrl.agents.optim import AdamSettings
from mtrl.agents.sac import SACSettings
from mtrl.agents.task_gradients import Reduction

ENTROPY_SHARE = 0.3  # of the entropy of acting at random, for discrete actions


def check(config: MTSACConfig) -> None:
    """Raise AgentError for a curriculum or a gradient method that MTSAC does not go with."""
    curriculum = CURRICULA.make(config.curriculum).info
    if curriculum.paces:
        raise AgentError(f"curriculum: {curriculum.name!r} lets tasks pause, which MTSAC does not offer; use mtppo")
    refuse_aggregator(config.heads, config.precision, config.aggregators)
    if config.aggregators[0].info.needs_positive_loss:
        raise AgentError(
            f"actor_aggregator: {config.aggregators[0].info.name!r} takes logarithms or ratios of losses, and SAC's "
            f"actor loss changes sign; give the actor one of {', '.join(positive_loss_free())}"
        )


def sac_settings(config: MTSACConfig, spec: EnvSpec, device: torch.device) -> SACSettings:
    """The update's settings for ``config`` in an environment of ``spec``."""
    one_hot = config.heads == "one-hot"
    num_tasks = 1 if config.heads == "separate" else spec.num_tasks
    num_heads = num_tasks if config.heads == "multi-head" else 1
    track = CURRICULA.make(config.curriculum).info.gramian
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
