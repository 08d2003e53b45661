"""The minibatches of an update: which samples of every task each step sees, and the noise of the aggregators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from mtrl.agents.data.priorities import counted
from mtrl.agents.networks.network import Network
from mtrl.agents.ppo.settings import MTPPOConfig

NoiseShape = tuple[int, ...] | None


class Draw(NamedTuple):
    """Randomness of one step: the samples of each task in its minibatch, int64 ``[S, T, m]`` below ``L E``, and uniform
    draws for the aggregators that ask for them (``Reduction.noise_shape``), for the critic's body if it does,
    ``[S, T, m, n]``, for what bodies change after a step, ``[S, T, n]``, and for a draw by priorities, one number a
    sample or sequence, ``[S, T, k]``."""

    rows: Tensor
    actor_tasks: Tensor | None = None
    critic_tasks: Tensor | None = None
    critic_network: Tensor | None = None
    actor_redraw: Tensor | None = None
    critic_redraw: Tensor | None = None
    within: Tensor | None = None


class Passes(Protocol):
    """The minibatches of every pass over a rollout, equally many in each; asked for in order, as far as needed."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sequence[Draw]: ...


class Epochs:
    """The minibatches of an update, drawn pass by pass: every sample once, in an order of its own for every task.

    Args:
        lead: ``(S, T)``.
        config: says how many samples a rollout has, how many minibatches a pass, and how many passes there are at most.
        sequence: steps that stay together, since gradients flow through them; 1 without memory.
        noise_shapes: of the aggregators of actor and critic, None where one draws nothing.
        networks: actor and critic, whose bodies may draw numbers for each task after a step, the critic's for each row
            too. The actor's takes the numbers of rows that it drew in acting.
        generator: what all of it is drawn from, on the device of the rollout, but
        within: the numbers of a draw by priorities; None where draws are uniform.
    """

    def __init__(
        self,
        lead: torch.Size,
        config: MTPPOConfig,
        sequence: int,
        noise_shapes: list[NoiseShape],
        networks: tuple[Network, Network],
        generator: torch.Generator,
        within: torch.Generator | None = None,
    ) -> None:
        self._shape = (*lead, config.rollout_per_task // sequence)
        self._sequence = sequence
        self._minibatches, self._most = config.minibatches, config.epochs
        self._noise_shapes, self._generator = noise_shapes, generator
        self._row_noise = networks[1].body.noise_size
        self._redraws = [network.num_redrawn for network in networks]
        self._within = within
        # States of the generators before each pass.
        self._states: list[list[Tensor]] = []

    def __len__(self) -> int:
        return self._most

    def __getitem__(self, index: int) -> list[Draw]:
        """The minibatches of the pass ``index``; passes are asked for one after the other."""
        if index >= self._most:
            raise IndexError(index)
        device = self._generator.device
        self._states.append([each.get_state() for each in self._generators])
        order = torch.rand(self._shape, generator=self._generator, device=device).argsort(-1)
        within = torch.arange(self._sequence, device=device)
        draws = []
        for first in order.tensor_split(self._minibatches, -1):
            rows = first
            if self._sequence > 1:
                rows = (first.unsqueeze(-1) * self._sequence + within).flatten(2)
            actor_noise = self._uniform(self._noise_shapes[0])
            critic_noise = self._uniform(self._noise_shapes[1])
            of_rows = self._numbers(rows.shape, self._row_noise)
            of_tasks = [self._numbers(rows.shape[:2], size) for size in self._redraws]
            places = None
            if self._within is not None:
                places = torch.rand(first.shape, generator=self._within, device=device)
            draw = Draw(rows, actor_noise, critic_noise, of_rows, *of_tasks)
            draws.append(draw._replace(within=places))
        return draws

    def keep(self, steps: int) -> None:
        """Make the draws after ``steps`` minibatches as if they had never been made."""
        passes = steps // self._minibatches
        if passes < len(self._states):
            for generator, state in zip(self._generators, self._states[passes], strict=True):
                generator.set_state(state)

    @property
    def _generators(self) -> list[torch.Generator]:
        return [each for each in (self._generator, self._within) if each is not None]

    def _numbers(self, lead: tuple[int, ...], size: int) -> Tensor | None:
        """Uniform ``[*lead, size]``; None where ``size`` is 0."""
        if not size:
            return None
        shape = (*lead, size)
        return torch.rand(shape, generator=self._generator, device=self._generator.device)

    def _uniform(self, shape: NoiseShape) -> Tensor | None:
        if shape is None:
            return None
        return torch.rand((1, *shape), generator=self._generator, device=self._generator.device)


def by_priority(
    draw: Draw, priority: Tensor, beta: float, sequence: int
) -> tuple[Tensor, Tensor]:
    """The samples of a minibatch in proportion to their priorities, and their weights.

    A pass splits the sum of the priorities into equal parts, as many as there are samples, and draws once from each.
    With equal priorities each sample has a part of its own, so the draw is the uniform one.

    Args:
        priority: of each sample of the rollout, or of each sequence, float64 ``[S, T, n]``.
        beta: exponent of the weights.
        sequence: steps that stay together; 1 without memory.

    Returns:
        Rows int64 and weights float32, both ``[S, T, m]``. The largest weight of a task in the rollout is 1.
    """
    assert draw.within is not None, "this draw is uniform"
    sums = priority.cumsum(-1)
    count = priority.shape[-1]
    uniform = draw.rows[..., ::sequence] // sequence
    part = sums[..., -1:] / count
    place = (uniform + draw.within.double()) * part
    chosen = torch.searchsorted(sums, place, right=True).clamp_max(count - 1)
    least = priority.amin(-1, keepdim=True)
    weight = counted(priority.gather(-1, chosen), least, beta)
    if sequence == 1:
        return chosen, weight
    within = torch.arange(sequence, device=chosen.device)
    rows = (chosen.unsqueeze(-1) * sequence + within).flatten(2)
    return rows, weight.repeat_interleave(sequence, -1)
