"""The SAC update (Haarnoja et al. 2018), per task, as a pure function over stacked seeds.

``sac_update`` depends on nothing but its arguments: parameters and optimizer state, a batch, and noise. Every tensor
has a leading axis ``S`` of seeds, and seeds never mix, so training one seed or ten is the same call. There is no Python
loop over tasks and no device synchronization, and shapes are static, so the call can be captured in a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from mtrl.agents.curricula.coupling import Pull
from mtrl.agents.data.replay import Batch
from mtrl.agents.members import with_task_code
from mtrl.agents.networks.network import Network
from mtrl.agents.networks.parameters import Params
from mtrl.agents.networks.ties import Ties
from mtrl.agents.optim.adam import AdamSettings, adam_state, adam_step
from mtrl.agents.optim.step import masked_tasks, masked_weights, masks_tasks, step_network
from mtrl.agents.optim.task_gradients import Reduction
from mtrl.agents.policies import ActorCriticPolicy
from mtrl.agents.sac.values import Scalar, Twins, Value, join

SACState = dict[str, dict[str, Tensor]]
SCALAR = Scalar()


@dataclass(frozen=True)
class SACSettings:
    """Everything about the update that is not state or data.

    Attributes:
        max_target: bound on the size of the critics' targets.
        target_entropy: in nats, of all tasks, or for each ``[1, T, 1]`` (with members for tasks ``[T, 1, 1]``).
        share: of training done, from 0 to 1, for bodies that depend on it.
        ties: parameters that actor and critics have in common; None without.
        temperature_weights: whether losses are weighed by the tasks' temperatures.
        value: what the critics' outputs are.
        target_twins, actor_twins: how two critics count in targets and in the actor's loss.
        shared_alpha: whether all tasks have one temperature.
    """

    actor: Network
    critic: Network
    actor_tasks: Reduction
    critic_tasks: Reduction
    num_tasks: int
    one_hot: bool
    policy: ActorCriticPolicy
    gamma: float
    tau: float
    max_target: float | None
    target_entropy: float | Tensor
    max_grad_norm: float | None
    clip_apart: bool
    adam: AdamSettings
    dtype: torch.dtype
    share: float = 0.0
    ties: Ties | None = None
    temperature_weights: bool = False
    value: Value = SCALAR
    target_twins: Twins = "min"
    actor_twins: Twins = "min"
    shared_alpha: bool = False


class SACNoise(NamedTuple):
    """Random numbers of one update: standard normal ``[S, T, b, A]`` for the actions at ``next_obs`` and at ``obs``
    (empty for discrete actions), and uniform draws for the aggregators that ask for them
    (``Reduction.noise_shape``), for the networks' bodies that do, ``[S, T, b, n]``, and for what these change after a
    step, ``[S, T, n]``."""

    next_action: Tensor
    action: Tensor
    actor_tasks: Tensor | None = None
    critic_tasks: Tensor | None = None
    actor_network: Tensor | None = None
    critic_network: Tensor | None = None
    actor_redraw: Tensor | None = None
    critic_redraw: Tensor | None = None


class Progress(NamedTuple):
    """What reductions look at besides gradients: recent success rates ``[S, T]``, the updates so far, and factors of
    the tasks' losses ``[S, T]``."""

    success: Tensor | None = None
    step: int | None = None
    weights: Tensor | None = None


class Recordable(NamedTuple):
    """The arguments of ``sac_update`` that differ between updates, where it is recorded: tensors alone."""

    batch: Batch
    noise: SACNoise
    success: Tensor | None
    weights: Tensor | None


class SACInputs(NamedTuple):
    """The arguments of ``sac_update`` after the state."""

    batch: Batch
    noise: SACNoise
    settings: SACSettings
    progress: Progress
    pull: Pull | None


NO_PROGRESS = Progress()


def recordable_update(
    settings: SACSettings,
) -> Callable[[SACState, Recordable], dict[str, Tensor]]:
    """``sac_update`` without a pull as a function of tensors alone; aggregators count updates on the device."""

    def update(state: SACState, inputs: Recordable) -> dict[str, Tensor]:
        progress = Progress(inputs.success, None, inputs.weights)
        return sac_update(state, inputs.batch, inputs.noise, settings, progress)

    return update


def init_sac(
    settings: SACSettings,
    seeds: list[int],
    initial_alpha: float,
    device: torch.device,
    per_member: bool = False,
) -> SACState:
    """Fresh state for each seed: ``actor`` ``[S, Pa]``, ``critic`` ``[S, 2, Pc]``, ``log_alpha`` ``[S, T]``.

    Args:
        per_member: whether seeds count their optimizer steps apart, so that some can be updated without the others.
    """
    actors, critics = [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        actors.append(settings.actor.init(1, generator)[0])
        critics.append(settings.critic.init(2, generator))
    actor = torch.stack(actors).to(device)
    critic = torch.stack(critics).to(device)
    log_alpha = torch.full((len(seeds), settings.num_tasks), initial_alpha, device=device).log()
    state = {
        "actor": adam_state(actor, per_member),
        "critic": adam_state(critic, per_member),
        "target_critic": {"params": critic.clone()},
        "log_alpha": adam_state(log_alpha, per_member),
    }
    if settings.ties is not None:
        state["tied"] = settings.ties.init(state, per_member)
        state["target_critic"]["params"].copy_(critic)
    # Ties change the critics' initial values, by which a mask is drawn.
    members = critic.flatten(0, 1)
    state["actor_tasks"] = settings.actor_tasks.init(len(seeds), device, actor)
    state["critic_tasks"] = settings.critic_tasks.init(len(seeds), device, members)
    return state


def sac_update(
    state: SACState,
    batch: Batch,
    noise: SACNoise,
    settings: SACSettings,
    progress: Progress = NO_PROGRESS,
    pull: Pull | None = None,
) -> dict[str, Tensor]:
    """One gradient step on critics, actor and temperatures, then the soft target update.

    Args:
        state: from ``init_sac``; it is consumed, that is, updated in place.
        batch: ``[S, T, b, ...]``.
        pull: a further loss on the parameters of actor and critic, from a curriculum that couples tasks.

    Returns:
        Metrics with a leading axis of seeds, ``[S]`` or ``[S, T]``, left on the device.
    """
    # Targets, critics and actor all see the temperatures from before this step.
    alpha = state["log_alpha"]["params"].exp()
    if settings.temperature_weights:
        progress = task_factors(progress, state["log_alpha"]["params"])
    target = critic_target(state, batch, noise.next_action, alpha, settings)
    masked = _masked_tasks(state, batch, target, alpha, noise, settings)
    progress = progress._replace(weights=masked_weights(progress.weights, masked))
    metrics = _update_critic(state, batch, target, noise, settings, progress, pull, masked)
    metrics |= _update_actor_and_alpha(
        state, batch, alpha, noise, settings, progress, pull, masked
    )
    if masked is not None:
        metrics["masked"] = masked.float()
    if settings.ties is not None:
        settings.ties.step(
            state,
            settings.max_grad_norm,
            settings.adam,
            masked=masked,
            noise=noise.critic_redraw,
        )
    # In place, since CUDA graphs and stacked seeds hold on to this very tensor.
    with torch.no_grad():
        state["target_critic"]["params"].lerp_(state["critic"]["params"], settings.tau)
    return metrics


def task_factors(progress: Progress, log_alpha: Tensor) -> Progress:
    """The progress with the tasks' factors times ``T softmax(-log α)`` (Yang et al. 2020)."""
    weights = log_alpha.shape[-1] * (-log_alpha).softmax(-1)
    if progress.weights is not None:
        weights = weights * progress.weights
    return progress._replace(weights=weights)


@torch.no_grad()
def critic_target(
    state: SACState, batch: Batch, noise: Tensor, alpha: Tensor, settings: SACSettings
) -> Tensor:
    """``r + gamma (1 - terminated) (min_k Q'_k(s', a') - alpha log pi(a'|s'))`` with a' ~ pi(s'), ``[S, T, b]``.

    With discrete actions the bracket is its exact expectation. With ``max_target`` it is kept within that size. A
    categorical value has a distribution ``[S, T, b, N]`` instead.
    """
    # The present policy acts at the next observation: actions of the buffer there would be off by policy.
    actor = settings.actor.views(state["actor"]["params"], settings.dtype)
    target_critic = settings.critic.views(
        state["target_critic"]["params"].flatten(0, 1), settings.dtype
    )
    next_obs = with_task_code(batch.next_obs, settings.one_hot)
    output = settings.actor.forward(actor, next_obs, None, None, settings.share)
    critics = partial(_critics, target_critic, batch.next_obs, settings)
    # Truncation is no termination: the value of the true next observation counts then.
    discount = settings.gamma * (1 - batch.terminated)
    target = settings.value.target(
        settings.policy,
        output,
        noise,
        critics,
        alpha,
        batch.reward,
        discount,
        settings.target_twins,
    )
    if settings.max_target is None:
        return target
    return target.clamp(-settings.max_target, settings.max_target)


def alpha_gradient(log_prob: Tensor, target_entropy: float | Tensor) -> Tensor:
    """Gradient of ``-log_alpha (log pi + target_entropy)`` with respect to ``log_alpha``, ``[S, T]``."""
    return -(log_prob + target_entropy).mean(-1)


def _critic_losses(
    params: Params, batch: Batch, target: Tensor, noise: SACNoise, settings: SACSettings
) -> tuple[Tensor, Tensor]:
    """The critics' losses ``[S, T]`` and the values ``[S, 2, T, b]`` that they are of."""
    every = _critics(params, batch.obs, settings, batch.action, noise.critic_network)
    return settings.value.losses(settings.policy, every, batch.action, target)


def _actor_losses(
    params: Params,
    critic: Params,
    batch: Batch,
    alpha: Tensor,
    noise: SACNoise,
    settings: SACSettings,
) -> tuple[Tensor, Tensor]:
    """The actor's losses ``[S, T]`` and the log-probabilities ``[S, T, b]`` of its actions."""
    obs = with_task_code(batch.obs, settings.one_hot)

    def critics(action: Tensor | None) -> Tensor:
        outputs = _critics(critic, batch.obs, settings, action)
        return join(settings.value.mean(outputs), settings.actor_twins)

    output = settings.actor.forward(params, obs, None, noise.actor_network, settings.share)
    value, log_prob = settings.policy.soft_value(output, noise.action, critics, alpha)
    return -value.mean(-1), log_prob


@torch.no_grad()
def _masked_tasks(
    state: SACState,
    batch: Batch,
    target: Tensor,
    alpha: Tensor,
    noise: SACNoise,
    settings: SACSettings,
) -> Tensor | None:
    """Which tasks a body leaves out of this update by their losses, bool ``[S, T]``; None where no body masks."""
    if not masks_tasks(settings):
        return None
    critic = settings.critic.views(state["critic"]["params"].flatten(0, 1), settings.dtype)
    actor = settings.actor.views(state["actor"]["params"], settings.dtype)
    of_critic, _ = _critic_losses(critic, batch, target, noise, settings)
    of_actor, log_prob = _actor_losses(actor, critic, batch, alpha, noise, settings)
    of_alpha = alpha.log() * alpha_gradient(log_prob, settings.target_entropy)
    return masked_tasks(settings, of_critic + of_actor + of_alpha)


def _update_critic(
    state: SACState,
    batch: Batch,
    target: Tensor,
    noise: SACNoise,
    settings: SACSettings,
    progress: Progress,
    pull: Pull | None,
    masked: Tensor | None,
) -> dict[str, Tensor]:
    critic, tasks = state["critic"], settings.critic_tasks
    leaves = tasks.leaves(critic["params"].flatten(0, 1), settings.dtype)
    losses, q = _critic_losses(leaves, batch, target, noise, settings)
    flat, state["critic_tasks"], about = tasks.gradient(
        losses,
        leaves,
        state["critic_tasks"],
        noise.critic_tasks,
        *progress,
        again=lambda at: _critic_losses(at, batch, target, noise, settings)[0],
        extra=settings.critic.extra_of(
            _critic_input(batch.obs, settings, batch.action),
            noise.critic_network,
            settings.share,
        ),
        trains=critic.get("trains"),
    )
    # Twins share one reduction, so their gradient comes flat.
    grad = flat.view_as(critic["params"])
    about |= step_network(
        state, "critic", grad, settings, settings.adam, pull, masked, noise.critic_redraw
    )
    metrics = {
        "critic_loss": losses.detach(),
        "q_value": q.detach().mean((1, 3)),
    }
    return metrics | {f"critic_{name}": value for name, value in about.items()}


def _update_actor_and_alpha(
    state: SACState,
    batch: Batch,
    alpha: Tensor,
    noise: SACNoise,
    settings: SACSettings,
    progress: Progress,
    pull: Pull | None,
    masked: Tensor | None,
) -> dict[str, Tensor]:
    actor, tasks = state["actor"], settings.actor_tasks
    leaves = tasks.leaves(actor["params"], settings.dtype)
    critic = settings.critic.views(state["critic"]["params"].flatten(0, 1), settings.dtype)
    losses, log_prob = _actor_losses(leaves, critic, batch, alpha, noise, settings)
    obs = with_task_code(batch.obs, settings.one_hot)
    grad, state["actor_tasks"], about = tasks.gradient(
        losses,
        leaves,
        state["actor_tasks"],
        noise.actor_tasks,
        *progress,
        again=lambda at: _actor_losses(at, critic, batch, alpha, noise, settings)[0],
        extra=settings.actor.extra_of(obs, noise.actor_network, settings.share),
        trains=actor.get("trains"),
    )
    about |= step_network(
        state, "actor", grad, settings, settings.adam, pull, masked, noise.actor_redraw
    )
    # The temperature of a task follows its own entropy alone and is not clipped.
    log_prob = log_prob.detach()
    slope = alpha_gradient(log_prob, settings.target_entropy)
    if masked is not None:
        slope = slope * ~masked
    if settings.shared_alpha:
        # Written out: the fused step reads gradients as they lie in memory.
        slope = slope.mean(-1, keepdim=True).expand_as(slope).contiguous()
    adam_step(state["log_alpha"], slope, settings.adam)
    metrics = {
        "actor_loss": losses.detach(),
        "entropy": -log_prob.mean(-1),
        "alpha": alpha,
    }
    return metrics | {f"actor_{name}": value for name, value in about.items()}


def _critics(
    critic: Params,
    obs: Tensor,
    settings: SACSettings,
    action: Tensor | None,
    noise: Tensor | None = None,
) -> Tensor:
    """Both critics' outputs ``[S, 2, T, b, ...]``; ``critic`` holds ``2 S`` members, twins adjacent."""
    x = _critic_input(obs, settings, action)
    q = settings.critic.forward(critic, x, None, noise, settings.share)
    return q.view(obs.shape[0], 2, *q.shape[1:])


def _critic_input(obs: Tensor, settings: SACSettings, action: Tensor | None) -> Tensor:
    """What the critics read, ``[S, T, b, in]``."""
    return settings.policy.critic_input(with_task_code(obs, settings.one_hot), action)
