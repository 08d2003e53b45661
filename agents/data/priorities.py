"""Priorities of samples: how likely each is to be learned from, and what it counts in return.

Samples are drawn in proportion to ``(|error| + eps)^a`` within each task, so no task starves another. The draw moves
the uniform one: a uniform number picks a place in the order of the samples, and the sample whose priority covers that
place of the sum is drawn. With ``a = 0`` it is the uniform draw itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from mtrl.agents.errors import AgentError
from mtrl.agents.settings import NonNegative, Positive, Share, settings
from mtrl.agents.state import Mark


class Sampling(ABC):
    """How samples of a task are drawn."""

    @property
    def is_uniform(self) -> bool:
        """Whether all samples are as likely, and count the same."""
        return False

    @property
    def anneals(self) -> bool:
        """Whether weights depend on the share of training done."""
        return False

    @abstractmethod
    def priority(self, error: Tensor) -> Tensor:
        """Priorities of samples by their errors, float64 above 0, of the same shape."""

    @abstractmethod
    def beta(self, share: float) -> float:
        """Exponent of the weights when a share of training is done."""


@settings
class Uniform(Sampling):
    """Every sample is as likely."""

    @property
    def is_uniform(self) -> bool:
        return True

    def priority(self, error: Tensor) -> Tensor:
        return torch.ones_like(error, dtype=torch.float64)

    def beta(self, share: float) -> float:
        return 0.0


@settings
class Prioritised(Sampling):
    """Samples of large error are likelier, and count less in return (Schaul et al. 2016, arXiv 1511.05952).

    ``P(j) ∝ (|δ_j| + eps)^a`` within a task, and the weight of a sample is ``(N P)^(−β)`` over the largest one. The
    error is MTSAC's temporal difference, the larger of both critics', and MTPPO's advantage.
    """

    a: NonNegative = 0.6
    """How far priorities tell samples apart; 0 is uniform."""
    start: Share = 0.4
    """β at the start of training."""
    end: Share = 1.0
    """β at its end, reached linearly; 1 undoes the bias of the draw."""
    eps: Positive = 0.01
    """Added to every error, so that all samples can be drawn."""

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise AgentError(f"end: {self.end} is below start, which is {self.start}")

    @property
    def anneals(self) -> bool:
        return self.end != self.start

    def priority(self, error: Tensor) -> Tensor:
        return (error.double().abs() + self.eps) ** self.a

    def beta(self, share: float) -> float:
        return self.start + (self.end - self.start) * share


def counted(priority: Tensor, least: Tensor, beta: float) -> Tensor:
    """Weights float32 of drawn samples, relative to that of priority ``least``: ``(N P)^(−β) / max``."""
    return (priority / least).pow(-beta).float()


@dataclass(init=False, eq=False)
class SumTree:
    """The priorities of every task's ring of transitions, with their sums over halves, quarters and so on.

    Node 1 is the sum of all, nodes 2k and 2k + 1 are the parts of node k, and leaves stand behind all other nodes. A
    node is always the sum of its two parts, so a tree made anew from its leaves is the same bit for bit.

    Args:
        capacity: transitions of a task.
        seed: of the part of a draw that a uniform one does not have.
    """

    _leaves: Annotated[Tensor, Mark(filled="_size")]
    _size: int
    _largest: Tensor
    _generator: torch.Generator

    def __init__(self, num_tasks: int, capacity: int, device: torch.device, seed: int) -> None:
        self.capacity = capacity
        self._width = 1 << (capacity - 1).bit_length()
        self._leaves = torch.zeros(num_tasks, capacity, dtype=torch.float64, device=device)
        self._size = 0
        # New transitions get the largest priority so far, so that each is learned from soon.
        self._largest = torch.ones(num_tasks, dtype=torch.float64, device=device)
        self._generator = torch.Generator(device).manual_seed(seed)
        self.derive()

    def derive(self) -> None:
        """Make the sums anew from the leaves, which become a view of the tree's last part."""
        leaves = self._leaves
        width = self._width
        nodes = leaves.new_zeros(len(leaves), 2 * width)
        nodes[:, width : width + self._size] = leaves[:, : self._size]
        while width > 1:
            parts = nodes[:, width : 2 * width]
            nodes[:, width // 2 : width] = parts[:, ::2] + parts[:, 1::2]
            width //= 2
        self._nodes = nodes
        object.__setattr__(self, "_leaves", nodes[:, self._width : self._width + self.capacity])

    @property
    def total(self) -> Tensor:
        """Sum of each task's priorities, ``[T]``."""
        return self._nodes[:, 1]

    def add(self, index: Tensor) -> None:
        """Account for new transitions of every task at ``index`` ``[n]``."""
        self._size = min(self._size + len(index), self.capacity)
        places = index.expand(len(self._leaves), -1)
        self._set(self._nodes, places, self._largest.unsqueeze(1).expand_as(places))

    def update(self, index: Tensor, priority: Tensor, task: int | None = None) -> None:
        """New priorities of transitions at ``index`` ``[T, b]`` of every task, or ``[1, b]`` of one."""
        rows = self._rows(task)
        self._set(self._nodes[rows], index, priority)
        largest = self._largest[rows]
        torch.maximum(largest, priority.amax(1), out=largest)

    def draw(
        self, uniform: Tensor, beta: float, task: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw transitions in proportion to their priorities.

        Args:
            uniform: int64 ``[T, b]`` below the number of transitions, or ``[1, b]`` for one task.
            beta: exponent of the weights.

        Returns:
            Indices like ``uniform``, and weights float32, the largest of each task in the batch being 1.
        """
        nodes = self._nodes[self._rows(task)]
        # In float32 the sum with a whole number below 2^29 is exact in float64, so it never reaches the next one.
        within = torch.rand(uniform.shape, generator=self._generator, device=nodes.device)
        part = nodes[:, 1:2] / self._size
        left = (uniform + within.double()) * part
        node = torch.ones_like(uniform)
        for _ in range(self._width.bit_length() - 1):
            first = nodes.gather(1, 2 * node)
            second = nodes.gather(1, 2 * node + 1)
            # Rounding can leave a little too much; an empty part is never entered.
            goes_on = (left >= first) & (second > 0)
            left = torch.where(goes_on, left - first, left)
            node = 2 * node + goes_on
        priority = nodes.gather(1, node)
        least = priority.amin(1, keepdim=True)
        return node - self._width, counted(priority, least, beta)

    def _rows(self, task: int | None) -> slice:
        return slice(None) if task is None else slice(task, task + 1)

    def _set(self, nodes: Tensor, index: Tensor, priority: Tensor) -> None:
        """Write leaves of ``nodes`` ``[n, 2 width]`` and all sums above them."""
        node = index + self._width
        # A transition can be there twice; the larger priority does not depend on their order.
        nodes.scatter_reduce_(1, node, priority.contiguous(), "amax", include_self=False)
        for _ in range(self._width.bit_length() - 1):
            node = node // 2
            total = nodes.gather(1, 2 * node) + nodes.gather(1, 2 * node + 1)
            nodes.scatter_(1, node, total)
