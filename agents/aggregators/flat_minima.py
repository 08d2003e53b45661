"""Flat-minima multi-task learning: a SAM step per task."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtrl.agents.agent import AgentError
from mtrl.agents.aggregators.base import (
    AggregatorInfo,
    Inputs,
    Solution,
    State,
    check,
    check_types,
    given,
)
from mtrl.agents.aggregators.linalg import or_one
from mtrl.agents.aggregators.moving import Moving
from mtrl.agents.aggregators.wrappers import nested, prefixed


@dataclass(frozen=True)
class FlatMinima(Moving):
    """``Agg(J) + Agg(F)`` with the flatness part ``F_i = ∇L_i(θ + ε_i) − g_i`` and ``ε_i = ρ g_i / ‖g_i‖``.

    Attributes:
        base: the aggregator of both parts, which keep separate states.
        rho: radius of the perturbation.
    """

    rho: float = 0.05

    label: ClassVar[str] = "flat-minima"
    looks: ClassVar[str] = "sharpness"

    @property
    def info(self) -> AggregatorInfo:
        info = super().info
        needs = (info.needs - {"gramian"}) | {"jacobian", "perturbed_jacobian"}
        source = "Phan et al. 2022 (arXiv 2211.13723)"
        return dataclasses.replace(info, needs=needs, source=source, direction_only=True)

    def __post_init__(self) -> None:
        check_types(self)
        check(self.rho > 0, "rho", self.rho, "above 0")
        if "cross_gramian" in self.base.info.needs:
            raise AgentError(
                f"flat-minima cannot wrap {self.base.info.name!r}: it would need four half batches"
            )

    def scales(self, norms: Tensor, factors: Tensor | None, learning_rate: float) -> Tensor:
        inverse = self.rho / or_one(norms)
        return torch.where(norms > 0, inverse, 0.0)

    def compare(self, there: Tensor, here: Tensor) -> Tensor:
        return there - here

    def init(
        self,
        num_tasks: int,
        *,
        num_params: int | None = None,
        batch_shape: tuple[int, ...] = (),
        device: torch.device | str | None = None,
    ) -> State:
        """State of both parts, tensors of their own; see ``Aggregator.init``."""
        state: State = {}
        # Two calls, so that no tensor belongs to both parts.
        for part in ("loss.", "flat."):
            of_base = self.base.init(
                num_tasks,
                num_params=num_params,
                batch_shape=batch_shape,
                device=device,
            )
            state |= prefixed(part, of_base)
        return state

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        rows = given(inputs.jacobian)
        flatness = given(inputs.perturbed_jacobian) - rows
        # Without the Gramian given, each part forms that of its own rows.
        plain = dataclasses.replace(inputs, gramian=None)
        loss, loss_state = self.base.direction(plain, nested("loss.", state))
        changed = dataclasses.replace(inputs, gramian=None, jacobian=flatness)
        flat, flat_state = self.base.direction(changed, nested("flat.", state))
        return Solution(
            (loss.direction + flat.direction).double(),
            torch.maximum(loss.residual, flat.residual).double(),
            loss.converged & flat.converged,
            prefixed("loss.", loss_state) | prefixed("flat.", flat_state),
        )
