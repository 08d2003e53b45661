"""Flat-minima multi-task learning: a SAM step per task."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl.agents.agent import AgentError
from mtrl.agents.aggregators.base import (
    Aggregator,
    AggregatorInfo,
    Inputs,
    Solution,
    State,
    check,
    check_types,
    given,
)
from mtrl.agents.aggregators.linalg import or_one
from mtrl.agents.aggregators.wrappers import nested, prefixed


@dataclass(frozen=True)
class FlatMinima(Aggregator):
    """``Agg(J) + Agg(F)`` with the flatness part ``F_i = ∇L_i(θ + ε_i) − g_i``.

    The caller takes the gradients twice: at θ, then row i at ``θ + perturbations(J)[i]``.

    Attributes:
        base: the aggregator of both parts, which keep separate states.
        rho: radius of the perturbation.
    """

    base: Aggregator
    rho: float = 0.05

    @property
    def info(self) -> AggregatorInfo:
        base = self.base.info
        needs = (base.needs - {"gramian"}) | {"jacobian", "perturbed_jacobian"}
        source = "Phan et al. 2022 (arXiv 2211.13723)"
        return dataclasses.replace(
            base,
            name=f"flat-minima({base.name})",
            needs=needs,
            source=source,
            direction_only=True,
        )

    def __post_init__(self) -> None:
        check_types(self)
        check(self.rho > 0, "rho", self.rho, "above 0")
        if "cross_gramian" in self.base.info.needs:
            raise AgentError(
                f"flat-minima cannot wrap {self.base.info.name!r}: it would need four half batches"
            )

    def perturbations(self, jacobian: Tensor) -> Tensor:
        """``ε_i = ρ g_i / ‖g_i‖``, ``[..., m, P]``; 0 for a zero gradient."""
        norms = torch.linalg.vector_norm(
            jacobian,
            dim=-1,
            keepdim=True,
            dtype=torch.float64,
        )
        inverse = self.rho / or_one(norms)
        scale = torch.where(norms > 0, inverse, 0.0)
        return jacobian * scale.to(jacobian.dtype)

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

    def noise_shape(
        self, num_tasks: int, num_params: int | None = None
    ) -> tuple[int, ...] | None:
        """The base's noise, used for both parts."""
        return self.base.noise_shape(num_tasks, num_params)

    def preference_text(self) -> str:
        return self.base.preference_text()

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
