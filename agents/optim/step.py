"""One optimizer step of one network, and what bodies and phases of training do to it: the same in every algorithm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from mtrl.agents.curricula.coupling import Pull, add_pull
from mtrl.agents.networks.network import Network
from mtrl.agents.networks.ties import Ties
from mtrl.agents.optim.adam import AdamSettings, adam_step, decay
from mtrl.agents.optim.clipping import clip_network

States = dict[str, dict[str, Tensor]]


class Networks(Protocol):
    """What an update's settings say of its networks."""

    @property
    def actor(self) -> Network: ...
    @property
    def critic(self) -> Network: ...
    @property
    def ties(self) -> Ties | None: ...
    @property
    def max_grad_norm(self) -> float | None: ...
    @property
    def clip_apart(self) -> bool: ...


def step_network(
    state: States,
    role: str,
    grad: Tensor,
    settings: Networks,
    adam: AdamSettings,
    pull: Pull | None = None,
    masked: Tensor | None = None,
    noise: Tensor | None = None,
    members: Sequence[int] | None = None,
) -> dict[str, Tensor]:
    """Step ``actor`` or ``critic`` by ``grad``, of the shape of its parameters, which is consumed.

    Args:
        pull: a further loss on the parameters, from a curriculum that couples tasks.
        masked, noise: as of ``Network.after_step``.
        members: the seeds that take the step; None for all.

    Returns:
        Metrics of the pull and of clipping.
    """
    network = settings.actor if role == "actor" else settings.critic
    own = state[role]
    # A curriculum's pull is no loss of a task: it is added after tasks are reduced, before the clip.
    about = add_pull(pull, role, network, own["params"], grad)
    # A phase may freeze parameters whose gradients were formed with the others.
    if "trains" in own:
        grad.mul_(own["trains"])
    if masked is not None:
        # Where all tasks are masked, their gradients were formed as if none was.
        learns = ~masked.all(-1)
        trailing = [1] * (grad.dim() - 1)
        grad.mul_(learns.view(-1, *trailing))
    if settings.ties is not None:
        settings.ties.collect(state, role, grad)
    about |= clip_network(grad, network, settings.max_grad_norm, settings.clip_apart)
    decay(network.trained(own["params"]), adam, network.trained(own.get("trains")), members)
    adam_step(own, grad, adam, members)
    flat = own["params"].view(-1, network.num_parameters)
    network.after_step(flat, masked, noise, members)
    return about


def masks_tasks(settings: Networks) -> bool:
    """Whether a body may leave tasks out of updates."""
    return settings.actor.body.masks_tasks or settings.critic.body.masks_tasks


@torch.no_grad()
def masked_tasks(settings: Networks, losses: Tensor) -> Tensor:
    """Which tasks a body leaves out of this update, bool ``[S, T]``.

    Args:
        losses: ``[S, T]``, of all networks together.
    """
    masked = torch.zeros_like(losses, dtype=torch.bool)
    for network in (settings.actor, settings.critic):
        if network.body.masks_tasks:
            masked = masked | (network.body.mask(losses) == 0)
    return masked


def masked_weights(weights: Tensor | None, masked: Tensor | None) -> Tensor | None:
    """Factors of the tasks' losses ``[S, T]`` by a curriculum, and 0 for masked tasks ``[S, T]``; None for 1.

    Where no task would train, gradient methods see them all, since some divide by their sum.
    """
    if masked is None:
        return weights
    left = (~masked).float() if weights is None else weights * ~masked
    trains = (left > 0).any(-1, keepdim=True)
    return torch.where(trains, left, torch.ones_like(left))
