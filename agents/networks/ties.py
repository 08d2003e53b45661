"""Parameters that actor and critic have in common: trained once, and copied to where each network reads them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mtrl.agents.errors import AgentError
from mtrl.agents.networks.network import Network
from mtrl.agents.optim.adam import AdamSettings, adam_state, adam_step, decay
from mtrl.agents.optim.clipping import clip_by_norm

States = dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Ties:
    """What the networks of one agent share with each other.

    ``state["tied"]`` holds the common values ``[S, P]``, their moments, and the gradient under way. Each network keeps
    a copy in its own flat tensor (each twin one), whose gradient is taken away before the network's optimizer steps.
    """

    actor: Network
    critic: Network

    @cached_property
    def places(self) -> dict[str, list[slice]]:
        """Where each common parameter stands in the flat tensor of each network, in one order."""
        names = tied_names(self.critic)
        found = {}
        for role, network in (("actor", self.actor), ("critic", self.critic)):
            found[role] = [network.layout.places[name] for name in names]
        return found

    @property
    def num_parameters(self) -> int:
        return sum(place.stop - place.start for place in self.places["critic"])

    def init(self, state: States, per_member: bool) -> dict[str, Tensor]:
        """Fresh state; the critics start with the actor's values, in place.

        Args:
            state: holds ``actor`` and ``critic``.
        """
        tied = adam_state(self._read("actor", state["actor"]["params"]), per_member)
        self._write("critic", state, tied["params"])
        return tied | {"grad": torch.zeros_like(tied["params"])}

    def collect(self, state: States, role: str, grad: Tensor) -> None:
        """Move the common part of a network's gradient ``[S, ..., P]`` to that of the common values; 0 is left."""
        by_copy = grad.view(len(grad), -1, grad.shape[-1])
        state["tied"]["grad"] += self._read(role, by_copy).sum(1)
        for place in self.places[role]:
            by_copy[..., place] = 0

    def step(
        self,
        state: States,
        max_norm: float | None,
        settings: AdamSettings,
        members: list[int] | None = None,
        masked: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> None:
        """Step the common values by the gradients collected, and copy them to both networks.

        Args:
            members, masked, noise: as of ``Network.after_step``, by which the critic's body corrects the values.
        """
        tied = state["tied"]
        clip_by_norm([tied["grad"]], max_norm)
        decay(tied["params"], settings, members=members)
        adam_step(tied, tied["grad"], settings, members)
        tied["grad"].zero_()
        with torch.no_grad():
            for role in self.places:
                self._write(role, state, tied["params"])
        if self.critic.body.corrects_steps:
            critics = state["critic"]["params"]
            flat = critics.view(-1, critics.shape[-1])
            self.critic.after_step(flat, masked, noise, members, tied=True)
            self.adopt(state)

    @torch.no_grad()
    def adopt(self, state: States) -> None:
        """Make the critic's values the common ones, in place."""
        critics = state["critic"]["params"]
        by_copy = critics.view(len(critics), -1, critics.shape[-1])
        state["tied"]["params"].copy_(self._read("critic", by_copy[:, 0]))
        for role in self.places:
            self._write(role, state, state["tied"]["params"])

    def _read(self, role: str, flat: Tensor) -> Tensor:
        """A copy of the common values ``[..., P]`` among those of a network."""
        return torch.cat([flat[..., place] for place in self.places[role]], -1)

    def _write(self, role: str, state: States, values: Tensor) -> None:
        """Copy the common values ``[S, P]`` to a network, in place."""
        params = state[role]["params"]
        by_copy = params.view(len(params), -1, params.shape[-1])
        start = 0
        for place in self.places[role]:
            size = place.stop - place.start
            by_copy[..., place] = values[:, None, start : start + size]
            start += size


def make_ties(actor: Network, critic: Network) -> Ties | None:
    """The ties that two networks declare; None if there are none.

    Raises:
        AgentError: one of the networks does not have what the other ties.
    """
    names = tied_names(critic)
    if set(names) != set(tied_names(actor)):
        raise AgentError(
            "critic_network: ties parameters to the actor's network, which has others; "
            "give actor and critic the same network"
        )
    for name in names:
        if actor.layout.all[name].shape != critic.layout.all[name].shape:
            raise AgentError(
                f"critic_network: ties {name!r} of shape {critic.layout.all[name].shape} to the actor's of "
                f"{actor.layout.all[name].shape}; tied parameters may not depend on what a network reads"
            )
    return Ties(actor, critic) if names else None


def tied_names(network: Network) -> list[str]:
    """The names of the parameters that a network ties to another's."""
    return [
        name for name, parameter in network.layout.all.items() if parameter.tied is not None
    ]
