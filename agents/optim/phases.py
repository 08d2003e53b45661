"""Phases of training: what begins when a share of training is done, such as freezing a base under adapters.

A body says at which shares its phases begin (``Body.phases``) and what changes then (``Body.on_phase``). An agent
passes them in order, before it collects the next experience. How many have begun is part of its state, and their random
numbers follow from its seed and their number, so a resumed run equals an uninterrupted one. No shape changes, so seeds
can be stacked. Without a planned total, as of ``learn``, no share is done and no phase begins.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mtrl.agents.networks.network import Network
from mtrl.agents.optim.step import Networks, States


class Event(NamedTuple):
    """The beginning of a phase.

    Attributes:
        share: of training done.
        whose: ``actor`` or ``critic``, or ``agent`` for a reset of all.
        number: which of its phases, from 1.
    """

    share: float
    whose: str
    number: int


def events_of(networks: dict[str, Network], resets: int) -> list[Event]:
    """All events of the networks, and resets at equal shares of training, in the order in which they come."""
    events = []
    for number in range(1, resets + 1):
        events.append(Event(number / (resets + 1), "agent", number))
    for whose, network in networks.items():
        for number, share in enumerate(network.body.phases, start=1):
            events.append(Event(share, whose, number))
    # The order is stable, so a reset comes before a phase of the same share.
    return sorted(events, key=lambda event: event.share)


def phase_masks(networks: dict[str, Network], state: States) -> None:
    """Give every network with phases the mask of the parameters that train, ``trains``, of the shape of its own."""
    for role, network in networks.items():
        if network.body.phases:
            params = state[role]["params"]
            state[role]["trains"] = torch.ones_like(params, dtype=torch.bool)


@torch.no_grad()
def restart(state: States, fresh: States) -> None:
    """Give all networks and optimizers the values of ``fresh``, in place."""
    for name, tensors in fresh.items():
        for key, value in tensors.items():
            state[name][key].copy_(value.view_as(state[name][key]))


def begin_phase(state: States, fresh: States, event: Event, settings: Networks) -> None:
    """Change ``state`` in place as a network's body does when a phase begins.

    Args:
        fresh: a new state, whose parameters have their initial values.
    """
    role, number = event.whose, event.number
    network = settings.actor if role == "actor" else settings.critic
    own = state[role]
    anew = fresh[role]["params"].view(-1, network.num_parameters)
    # What a critic's tied parameters become is what they are in the actor too, whose own say is dropped.
    before = own["params"].clone()
    trains = network.begin_phase(_members(own["params"], network), anew, number)
    own["trains"].copy_(trains.expand_as(own["trains"]))
    _restart(own)
    if role == "critic" and "target_critic" in state:
        target = state["target_critic"]["params"]
        network.begin_phase(_members(target, network), anew, number)
    if settings.ties is None:
        return
    if role == "critic":
        settings.ties.adopt(state)
        _restart(state["tied"])
        return
    for place in settings.ties.places["actor"]:
        own["params"][..., place] = before[..., place]


def _members(flat: Tensor, network: Network) -> Tensor:
    """Parameters ``[S, ..., P]`` as ``[K, P]``, a view."""
    return flat.view(-1, network.num_parameters)


def _restart(state: dict[str, Tensor]) -> None:
    """Forget the optimizer's moments and steps, in place."""
    for name in ("exp_avg", "exp_avg_sq", "step"):
        state[name].zero_()
