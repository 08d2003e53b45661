"""Parameters that actor and critic have in common: trained once, and copied to where each network reads them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mtrl.agents.errors import AgentError
from mtrl.agents.networks.network import Network
from mtrl.agents.optim.adam import AdamSettings, adam_state, adam_step, clip_by_norm

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
    def places(self) -> dict[str, Tensor]:
        """Where the common values stand in the flat tensor of each network."""
        names = tied_names(self.critic)
        found = {}
        for role, network in (("actor", self.actor), ("critic", self.critic)):
            ranges = [torch.arange(*network.layout.place(name)) for name in names]
            found[role] = torch.cat(ranges)
        return found

    @property
    def num_parameters(self) -> int:
        return len(self.places["critic"])

    def init(self, state: States, per_member: bool) -> dict[str, Tensor]:
        """Fresh state; the critics start with the actor's values, in place.

        Args:
            state: holds ``actor`` and ``critic``.
        """
        params = state["actor"]["params"]
        tied = adam_state(params[..., self._at("actor", params)].clone(), per_member)
        self._write("critic", state, tied["params"])
        return tied | {"grad": torch.zeros_like(tied["params"])}

    def collect(self, state: States, role: str, grad: Tensor) -> None:
        """Move the common part of a network's gradient ``[S, ..., P]`` to that of the common values; 0 is left."""
        at = self._at(role, grad)
        of_copies = grad[..., at].flatten(1, -2) if grad.dim() > 2 else grad[:, None, at]
        state["tied"]["grad"] += of_copies.sum(1)
        grad[..., at] = 0

    def step(
        self,
        state: States,
        max_norm: float | None,
        settings: AdamSettings,
        members: list[int] | None = None,
    ) -> None:
        """Step the common values by the gradients collected, and copy them to both networks."""
        tied = state["tied"]
        clip_by_norm(tied["grad"], max_norm)
        adam_step(tied, tied["grad"], settings, members)
        tied["grad"].zero_()
        with torch.no_grad():
            for role in self.places:
                self._write(role, state, tied["params"])

    def _write(self, role: str, state: States, values: Tensor) -> None:
        params = state[role]["params"]
        at = self._at(role, params)
        lead = [1] * (params.dim() - 2)
        params[..., at] = values.view(len(values), *lead, -1)

    def _at(self, role: str, like: Tensor) -> Tensor:
        return self.places[role].to(like.device)


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
    return [name for name, parameter in network.layout.all.items() if parameter.tied is not None]
