"""The base of aggregators that change when or on what another one acts, and not what it makes of gradients."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch

from mtrl.agents.aggregators.base import Aggregator, AggregatorInfo, Inputs, Solution, State


@dataclass(frozen=True)
class Around(Aggregator):
    """Passes gradients, noise and state on to ``base``, whatever kind of method it is.

    Attributes:
        base: the aggregator that acts.
    """

    base: Aggregator

    label: ClassVar[str] = "around"

    @property
    def info(self) -> AggregatorInfo:
        base = self.base.info
        return dataclasses.replace(base, name=f"{self.label}({base.name})")

    def at(self, step: int | None, share: float) -> Aggregator:
        base = self.base.at(step, share)
        return self if base is self.base else dataclasses.replace(self, base=base)

    def init(
        self,
        num_tasks: int,
        *,
        num_params: int | None = None,
        batch_shape: tuple[int, ...] = (),
        device: torch.device | str | None = None,
    ) -> State:
        """The base's state; see ``Aggregator.init``."""
        return self.base.init(
            num_tasks, num_params=num_params, batch_shape=batch_shape, device=device
        )

    def noise_shape(
        self, num_tasks: int, num_params: int | None = None
    ) -> tuple[int, ...] | None:
        """The base's noise."""
        return self.base.noise_shape(num_tasks, num_params)

    def preference_text(self) -> str:
        return self.base.preference_text()

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        return self.base._solve(inputs, state, eps)
