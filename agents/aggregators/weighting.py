"""A loss weighting in front of a gradient method: the method sees gradients of the weighted losses."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl.agents.agent import AgentError
from mtrl.agents.aggregators.base import Aggregator, AggregatorInfo, Inputs, Solution, State
from mtrl.agents.aggregators.registry import AGGREGATORS
from mtrl.agents.aggregators.wrappers import nested, noise_size, prefixed

GRADIENTS = frozenset({"gramian", "jacobian", "cross_gramian", "perturbed_jacobian"})


@dataclass(frozen=True)
class Weighted(Aggregator):
    """``base`` on the gradients ``c_i g_i``, where c are the weights of ``weighting`` relative to plain averaging.

    From ``G' = diag(c) G diag(c)`` the base gives weights v, and the update is ``Σ c_i v_i g_i``; a base that needs the
    Jacobian gets ``diag(c) J``. c is m times the weights of a rule that averages, so that behind ``mean`` any such rule
    is what it is alone. Rules that sum (``info.sums``) are so behind ``sum``.

    Attributes:
        base: the gradient method.
        weighting: a rule whose weights follow from losses, success or chance alone.
    """

    base: Aggregator
    weighting: Aggregator

    @property
    def info(self) -> AggregatorInfo:
        base = self.base.info
        rule = self.weighting.info
        return dataclasses.replace(
            base,
            name=f"{rule.name}({base.name})",
            needs=base.needs | rule.needs,
            needs_positive_loss=base.needs_positive_loss or rule.needs_positive_loss,
            warmup=max(base.warmup, rule.warmup),
        )

    def __post_init__(self) -> None:
        if not _weighs_losses(self.weighting.info):
            raise AgentError(
                f"weighting={self.weighting.info.name!r} is not allowed; it must be a rule that weighs losses, such as "
                "uncertainty"
            )
        if self.base.info.scale_free:
            raise AgentError(
                f"weighting={self.weighting.info.name!r} would change nothing before {self.base.info.name!r}, whose "
                "update does not depend on the scale of a task's loss"
            )

    def init(
        self,
        num_tasks: int,
        *,
        num_params: int | None = None,
        batch_shape: tuple[int, ...] = (),
        device: torch.device | str | None = None,
    ) -> State:
        """State of both, under ``base.`` and ``weighting.``; see ``Aggregator.init``."""
        base = self.base.init(
            num_tasks, num_params=num_params, batch_shape=batch_shape, device=device
        )
        rule = self.weighting.init(num_tasks, batch_shape=batch_shape, device=device)
        return prefixed("base.", base) | prefixed("weighting.", rule)

    def noise_shape(
        self, num_tasks: int, num_params: int | None = None
    ) -> tuple[int, ...] | None:
        """Flat: the base's noise, then the weighting's; None if neither draws any."""
        of_base = self.base.noise_shape(num_tasks, num_params)
        of_rule = self.weighting.noise_shape(num_tasks)
        if of_base is None and of_rule is None:
            return None
        return (noise_size(of_base) + noise_size(of_rule),)

    def preference_text(self) -> str:
        return self.base.preference_text()

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        own, rest = self._split_noise(inputs)
        rule = self.weighting._solve(
            dataclasses.replace(inputs, noise=own), nested("weighting.", state), eps
        )
        factors = rule.value
        if not self.weighting.info.sums:
            factors = factors * factors.shape[-1]
        seen = dataclasses.replace(scaled(inputs, factors), noise=rest)
        out = self.base._solve(seen, nested("base.", state), eps)
        value = out.value if self.info.direction_only else out.value * factors
        return Solution(
            value,
            torch.maximum(out.residual, rule.residual),
            out.converged & rule.converged,
            prefixed("base.", out.state) | prefixed("weighting.", rule.state),
        )

    def _split_noise(self, inputs: Inputs) -> tuple[Tensor | None, Tensor | None]:
        """The weighting's and the base's part of the noise."""
        if inputs.noise is None:
            return None, None
        m, num_params = _sizes(inputs)
        of_base = self.base.noise_shape(m, num_params)
        of_rule = self.weighting.noise_shape(m)
        sizes = [noise_size(of_base), noise_size(of_rule)]
        first, last = inputs.noise.split(sizes, -1)
        base = None if of_base is None else first.unflatten(-1, of_base)
        rule = None if of_rule is None else last.unflatten(-1, of_rule)
        return rule, base


def _weighs_losses(info: AggregatorInfo) -> bool:
    """Whether the weights change from update to update, and follow from no gradient."""
    return bool(info.needs) and not info.needs & GRADIENTS


def loss_weightings() -> list[str]:
    """Names of the rules that can stand in front of a gradient method."""
    return sorted(name for name, cls in AGGREGATORS.items() if _weighs_losses(cls().info))


def scaled(inputs: Inputs, factors: Tensor) -> Inputs:
    """``inputs`` with the gradient of each task multiplied by its factor ``[..., m]``."""
    column = factors.unsqueeze(-1)
    outer = column * factors.unsqueeze(-2)
    return dataclasses.replace(
        inputs,
        gramian=_times(inputs.gramian, outer),
        cross_gramian=_times(inputs.cross_gramian, outer),
        jacobian=_times(inputs.jacobian, column),
        perturbed_jacobian=_times(inputs.perturbed_jacobian, column),
    )


def _times(x: Tensor | None, factors: Tensor) -> Tensor | None:
    return None if x is None else x * factors.to(x.dtype)


def _sizes(inputs: Inputs) -> tuple[int, int | None]:
    """The number of tasks, and of parameters where a Jacobian tells it."""
    if inputs.jacobian is not None:
        return inputs.jacobian.shape[-2], inputs.jacobian.shape[-1]
    for field in (inputs.losses, inputs.success, inputs.gramian, inputs.cross_gramian):
        if field is not None:
            return field.shape[-1], None
    raise AgentError("inputs: no field says how many tasks there are")
