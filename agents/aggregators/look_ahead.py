"""Look-ahead: every task's gradient after a step of its own, on other samples (MAML-MTL)."""

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
from mtrl.agents.aggregators.moving import Moving

MOST = 100
"""Most that a step's size may be, in multiples of the optimizer's."""


@dataclass(frozen=True)
class LookAhead(Moving):
    """``Agg`` of the rows ``∇L_i(θ − η_i ∇L_i(θ))``, the inner gradients and the outer ones from different samples.

    Heads and all that tasks own take the inner step too, and learn from their gradients after it. The gradients are of
    first order: those of the inner step itself are left out.

    Attributes:
        base: the aggregator of the outer gradients.
        radius: length of a task's inner step, ``η_i = radius / ‖g_i‖``, but η at most 100 times the optimizer's.
        eta: η of all tasks in place of a length; 0 for none.
        inner: share of a task's samples that the inner step is of.
    """

    radius: float = 0.05
    eta: float = 0.0
    inner: float = 0.8

    label: ClassVar[str] = "look-ahead"
    moves_owned: ClassVar[bool] = True
    looks: ClassVar[str] = "outer_loss"

    @property
    def info(self) -> AggregatorInfo:
        info = super().info
        return dataclasses.replace(
            info,
            needs=(info.needs - {"gramian"}) | {"jacobian", "perturbed_jacobian"},
            source="Aoki et al. 2021 (arXiv 2106.10595), MAML-MTL",
            direction_only=True,
        )

    def __post_init__(self) -> None:
        check_types(self)
        check(self.radius >= 0, "look_ahead", self.radius, "at least 0")
        check(self.eta >= 0, "look_ahead_eta", self.eta, "at least 0")
        check(self.radius > 0 or self.eta > 0, "look_ahead", self.radius, "above 0")
        check(0 < self.inner < 1, "look_ahead_inner", self.inner, "above 0 and below 1")
        if self.base.info.needs & {"cross_gramian", "perturbed_jacobian"}:
            raise AgentError(
                f"look_ahead cannot go around {self.base.info.name!r}, which has other uses for a second look or for "
                "parts of a batch"
            )

    def scales(self, norms: Tensor, factors: Tensor | None, learning_rate: float) -> Tensor:
        # Shares of a curriculum scale the outer gradients; the inner step is of the plain losses.
        plain = torch.ones_like(norms) if factors is None else factors.to(norms.dtype)
        if self.eta:
            return -self.eta * plain
        size = norms * plain
        eta = self.radius / torch.where(size > 0, size, torch.inf)
        return -eta.clamp_max(MOST * learning_rate) * plain

    def compare(self, there: Tensor, here: Tensor) -> Tensor:
        return there

    def parts(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The first samples for the inner step and the rest for the outer gradients, each of mean 1."""
        rows = like.shape[-1]
        if rows < 2:
            raise AgentError(
                f"look_ahead: a batch of {rows} sample a task cannot be split; use a larger one"
            )
        inner = min(max(round(self.inner * rows), 1), rows - 1)
        is_inner = torch.arange(rows, device=like.device) < inner
        first = is_inner.float() * (rows / inner)
        second = (~is_inner).float() * (rows / (rows - inner))
        return first.expand_as(like), second.expand_as(like)

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        outer = dataclasses.replace(
            inputs, gramian=None, jacobian=given(inputs.perturbed_jacobian)
        )
        out, state = self.base.direction(outer, state)
        return Solution(out.direction.double(), out.residual.double(), out.converged, state)
