"""Geometry of the tasks' parameters for coupled curricula, and the pull that these exert on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mtrl.agents.curricula.base import Geometry, Turn
from mtrl.agents.networks.network import Network

Params = Mapping[str, dict[str, Tensor]]
Owned = dict[str, Tensor]


class Pull(Protocol):
    """A further loss ``strength Σ_t ‖w_t − Σ_j c_tj w_j‖²`` on the parameters of each network."""

    def gradient(self, name: str, network: Network, params: Tensor) -> Tensor:
        """The gradient of that loss at ``params`` ``[S, ..., P]``, other tasks' parameters constant; of its shape."""


@dataclass(frozen=True)
class MemberPull:
    """Pull on one whole agent, whose parameters are ``[1, ...]``.

    Attributes:
        keep: 1 − the agent's own weight in its combination.
        sources: the other agents' part of the combination, by network, each of the shape of its parameters.
    """

    keep: float
    strength: float
    sources: dict[str, Tensor]

    def gradient(self, name: str, network: Network, params: Tensor) -> Tensor:
        distance = self.keep * params - self.sources[name]
        return 2 * self.strength * self.keep * distance


@dataclass(frozen=True)
class HeadPull:
    """Pull on what every task owns in one shared network, its head above all, at once.

    Attributes:
        combinations: ``[T, T]``, row t for task t.
    """

    combinations: Tensor
    strength: float

    def gradient(self, name: str, network: Network, params: Tensor) -> Tensor:
        own = self.combinations.diagonal()
        others = self.combinations - own.diag()
        grad = torch.zeros_like(params)
        # Views, so that what is written to them stands in ``grad``.
        slopes = network.owned(grad)
        for part, heads in network.owned(params).items():
            trailing = [1] * (heads.dim() - 2)
            keep = (1 - own).view(-1, *trailing)
            mixed = torch.tensordot(others, heads, ([1], [1])).movedim(0, 1)
            slopes[part].copy_(2 * self.strength * keep * (keep * heads - mixed))
        return grad


def add_pull(
    pull: Pull | None, name: str, network: Network, params: Tensor, grad: Tensor
) -> dict[str, Tensor]:
    """Add the gradient of ``pull`` to ``grad`` ``[S, ..., P]`` in place; do nothing where there is none.

    Returns:
        Metrics ``[S]`` that show how strong the coupling is, none without a pull: ``pull_norm``, the norm of what is
        added, and ``unpulled_norm``, the norm of ``grad`` before.
    """
    if pull is None:
        return {}
    added = pull.gradient(name, network, params)
    axes = tuple(range(1, grad.dim()))
    norms = {
        "pull_norm": torch.linalg.vector_norm(added, dim=axes),
        "unpulled_norm": torch.linalg.vector_norm(grad, dim=axes),
    }
    grad.add_(added)
    return norms


def owned_agents(state: Params, networks: Mapping[str, Network]) -> Owned:
    """Parameters ``[T, n]`` of each network where every task has an agent of its own; views."""
    return {name: state[name]["params"].flatten(1) for name in networks}


def owned_heads(state: Params, networks: Mapping[str, Network]) -> Owned:
    """Parameters ``[T, n]`` that each task owns in each network that all tasks share (of every twin): its heads."""
    out = {}
    for name, network in networks.items():
        views = network.owned(state[name]["params"]).values()
        by_task = [view.transpose(0, 1).flatten(1) for view in views]
        out[name] = torch.cat(by_task, 1)
    return out


def equal_heads(state: Params, networks: Mapping[str, Network]) -> None:
    """Give all heads of each network the first one's parameters, in place."""
    for name, network in networks.items():
        for heads in network.owned(state[name]["params"]).values():
            # A copy, since the source overlaps the destination.
            first = heads[:, :1].clone()
            heads.copy_(first.expand_as(heads))


@torch.no_grad()
def geometry(owned: Owned, origin: Owned, features: Tensor) -> Geometry:
    """Inner products of displacements from ``origin`` (``[1, n]`` each), and similarity of policies.

    Args:
        features: of each task's action distribution at the same observations, ``[T, n, F]``.
    """
    count = len(features)
    products = torch.zeros(count, count, dtype=torch.float64)
    for name, params in owned.items():
        # Displacements: the common origin would make all agents look alike.
        moved = params - origin[name]
        products += (moved @ moved.T).double().cpu()
    flat = features.flatten(1).double()
    distance = torch.cdist(flat, flat).square().cpu()
    return Geometry(products, -distance / features.shape[1])


@torch.no_grad()
def member_pull(turn: Turn, state: Params, networks: Mapping[str, Network]) -> MemberPull:
    """The pull of ``turn`` on its agent, from the agents as they are."""
    others = turn.combination.clone()
    others[turn.task] = 0
    sources = {}
    for name in networks:
        params = state[name]["params"]
        weights = others.to(params.device, params.dtype)
        sources[name] = torch.tensordot(weights, params, 1).unsqueeze(0)
    keep = 1 - float(turn.combination[turn.task])
    return MemberPull(keep, turn.strength, sources)


Features = Callable[[], Tensor]
