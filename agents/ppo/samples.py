"""From a rollout to samples for the losses: values, advantages, targets, and the old policy's log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from mtrl.agents.data.rollout import Rollout
from mtrl.agents.members import with_task_code
from mtrl.agents.networks.encoder import take_rows
from mtrl.agents.networks.memory import Recall
from mtrl.agents.optim.weighted import Weight
from mtrl.agents.ppo.popart import denormalize, normalize, popart_update

if TYPE_CHECKING:
    from mtrl.agents.ppo.update import PPOSettings, PPOState

CHUNK = 8192  # samples of a task whose values are computed at once


class Samples(NamedTuple):
    """A rollout ready for the losses, step after step, or with memory environment after environment.

    ``obs`` is what ``Network.look`` makes of inputs ``[S, T, n, D]``, ``action`` ``[S, T, n, A]`` (discrete
    ``[S, T, n]``), the rest ``[S, T, n]``; ``target`` is on the scale of the critic's heads. With memory,
    ``start`` ``[S, T, n]`` says where episodes begin and ``memory`` ``[S, T, n, 2 H]`` holds the states of actor and
    critic before each step. ``actor_weight`` ``[S, T, n]`` is what samples count in the actor's loss and ``weight``
    what those of a minibatch count in both losses; None where all count the same. ``noise`` ``[S, T, n, k]`` is what
    the actor's body drew.
    """

    obs: Any
    action: Tensor
    log_prob: Tensor
    advantage: Tensor
    target: Tensor
    start: Tensor | None = None
    memory: Tensor | None = None
    actor_weight: Weight = None
    weight: Weight = None
    noise: Tensor | None = None


@torch.no_grad()
def prepare(
    state: PPOState, rollout: Rollout, settings: PPOSettings
) -> tuple[Samples, dict[str, Tensor]]:
    """Samples of a rollout, and what is known of them before the first step; moves the value statistics.

    The old log-probabilities are recomputed in the arithmetic of the update, so every first ratio is 1, but for rows of
    an earlier round: their ratios stay relative to the policy that acted.
    """
    shape = rollout.reward.shape
    # What depends on observations alone is computed once here, for both networks and all passes.
    obs = settings.actor.look(with_task_code(_rows(rollout.obs, settings), settings.one_hot))
    next_obs = settings.actor.look(
        with_task_code(_rows(rollout.next_obs, settings), settings.one_hot)
    )
    action = _rows(rollout.action, settings)
    start = None if rollout.start is None else _rows(rollout.start, settings)
    memory = None if rollout.memory is None else _rows(rollout.memory, settings)
    noise = None if rollout.noise is None else _rows(rollout.noise, settings)
    if start is None or memory is None:
        value_rows = values(state, obs, settings)
        next_value_rows = values(state, next_obs, settings)
    else:
        goes_on = recall(start, memory, settings, 1)
        value_rows, next_value_rows = _remembered_values(
            state, obs, next_obs, goes_on, settings
        )
    value = _unrows(value_rows, shape, settings)
    next_value = _unrows(next_value_rows, shape, settings)
    estimates = gae(rollout, value, next_value, settings.gamma, settings.gae_lambda)
    target = _rows(estimates + value, settings)
    advantage = _rows(estimates, settings)
    explained = 1 - advantage.var(-1) / target.var(-1).clamp_min(1e-8)
    if settings.normalize_advantages:
        # Before the first reward, advantages are only critic error. Dividing them by a tiny deviation
        # would drown the entropy bonus, and exploration would stop too early.
        spread = (advantage.std(-1, keepdim=True) + 1e-8).clamp_min(settings.advantage_floor)
        advantage = (advantage - advantage.mean(-1, keepdim=True)) / spread
    # The scale moves before targets are normalized with it; the heads keep their outputs meanwhile.
    if settings.popart_step is not None:
        popart_update(
            state["popart"],
            state["critic"]["params"],
            settings.critic,
            target,
            settings.popart_step,
        )
    actor = settings.actor.views(state["actor"]["params"], settings.dtype)
    log_std = state["log_std"]["params"] if "log_std" in state else None
    goes_on = recall(start, memory, settings, 0)
    parts = settings.actor.split(obs, CHUNK) if goes_on is None else [obs]
    drawn: Sequence[Tensor | None] = [noise] * len(parts)
    if noise is not None and goes_on is None:
        drawn = noise.split(CHUNK, 2)
    outputs = [
        settings.actor.forward(actor, x, goes_on, numbers, settings.share)
        for x, numbers in zip(parts, drawn, strict=True)
    ]
    output = torch.cat(outputs, 2)
    log_prob, _ = settings.policy.log_prob(output, action, log_std)
    if rollout.fresh is not None and rollout.log_prob is not None:
        log_prob = torch.where(
            rollout.fresh.unsqueeze(-1), log_prob, _rows(rollout.log_prob, settings)
        )
        rollout.log_prob.copy_(_unrows(log_prob, rollout.reward.shape, settings))
    samples = Samples(
        obs,
        action,
        log_prob,
        advantage,
        normalize(state["popart"], target),
        start,
        memory,
        _actor_weight(state, _rows(value, settings), settings),
        noise=noise,
    )
    return samples, {"value": _rows(value, settings).mean(-1), "explained_variance": explained}


def _actor_weight(state: PPOState, value: Tensor, settings: PPOSettings) -> Weight:
    """What samples count in the actor's loss, by their values ``[S, T, n]`` on the scale of the critic's heads."""
    before = state.get("sample_weighting", {})
    weight, after = settings.sample_weighting.weights(normalize(state["popart"], value), before)
    if after:
        state["sample_weighting"] = after
    return weight


def recall(
    start: Tensor | None, memory: Tensor | None, settings: PPOSettings, network: int
) -> Recall | None:
    """What actor (0) or critic (1) goes on from in sequences of ``settings.sequence`` rows; None without memory."""
    if start is None or memory is None:
        return None
    return Recall(memory.chunk(2, -1)[network][:, :, :: settings.sequence], start)


def _rows(field: Tensor, settings: PPOSettings) -> Tensor:
    """``[S, T, L, E, ...]`` as ``[S, T, n, ...]``: step after step, or with memory environment after environment."""
    return (field.transpose(2, 3) if settings.sequence else field).flatten(2, 3)


def _unrows(rows: Tensor, shape: torch.Size, settings: PPOSettings) -> Tensor:
    """``[S, T, n]`` as ``[S, T, L, E]``, the inverse of ``_rows``."""
    if not settings.sequence:
        return rows.view(shape)
    return rows.unflatten(2, (shape[3], shape[2])).transpose(2, 3)


def _remembered_values(
    state: PPOState, obs: Any, next_obs: Any, goes_on: Recall | None, settings: PPOSettings
) -> tuple[Tensor, Tensor]:
    """Values ``[S, T, n]`` of ``obs``, and of ``next_obs`` with the memory of having seen ``obs``."""
    critic = settings.critic.views(state["critic"]["params"], settings.dtype)
    hidden = settings.critic.features(critic, obs, goes_on, None, settings.share)
    after = Recall(
        hidden, torch.zeros(hidden.shape[:3], dtype=torch.bool, device=hidden.device)
    )
    now = settings.critic.outputs(critic, hidden)
    then = settings.critic.forward(critic, next_obs, after, None, settings.share)
    return denormalize(state["popart"], now.squeeze(-1)), denormalize(
        state["popart"], then.squeeze(-1)
    )


def gae(
    rollout: Rollout, value: Tensor, next_value: Tensor, gamma: float, lam: float
) -> Tensor:
    """Generalized advantage estimates (Schulman et al. 2016, equation 16), ``[S, T, L, E]``.

    ``next_value`` is the value of the true next observation: a truncated episode bootstraps from it, a terminated one
    does not, and neither takes anything from the episode that follows.
    """
    delta = rollout.reward + gamma * (1 - rollout.terminated) * next_value - value
    decay = gamma * lam * (1 - rollout.done)
    advantage = torch.empty_like(delta)
    # Backward in time, since every estimate continues the one after it.
    running = torch.zeros_like(delta[:, :, 0])
    for step in range(delta.shape[2] - 1, -1, -1):
        running = torch.addcmul(delta[:, :, step], decay[:, :, step], running)
        advantage[:, :, step] = running
    return advantage


def values(state: PPOState, obs: Any, settings: PPOSettings) -> Tensor:
    """Values ``[S, T, n]`` of what ``Network.look`` makes of task-major inputs ``[S, T, n, D]``."""
    critic = settings.critic.views(state["critic"]["params"], settings.dtype)
    parts = [
        settings.critic.forward(critic, x, None, None, settings.share).squeeze(-1)
        for x in settings.critic.split(obs, CHUNK)
    ]
    return denormalize(state["popart"], torch.cat(parts, 2))


def take_samples(samples: Samples, index: Tensor, settings: PPOSettings) -> Samples:
    """The samples at ``index`` ``[S, T, m]``."""
    fields = samples._asdict()
    obs = fields.pop("obs")
    present = {name: field for name, field in fields.items() if field is not None}
    taken = dict(zip(present, take_rows(index, *present.values()), strict=True))
    return samples._replace(obs=settings.actor.take(obs, index), **taken)
