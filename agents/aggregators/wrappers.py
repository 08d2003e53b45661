"""Aggregators around an aggregator: hold the weights, smooth them, draw a subset of tasks, ridge, rescale."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

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
    expand,
    given,
    task_zeros,
)
from mtrl.agents.aggregators.linalg import add_diagonal, diagonal, matvec, or_one, ratio


@dataclass(frozen=True)
class Wrappers:
    """The settings that go with every aggregator; by default none changes it."""

    ridge: float = 0.0
    """Share of the mean diagonal added to the Gramian's diagonal; 0 adds none."""
    subset: int = 0
    """Tasks drawn for an update; 0 takes all."""
    rescale: Policy = "none"
    """What the length of the update becomes."""
    ema: float = 0.0
    """Decay of a running mean of the weights; 0 has none."""
    every: int = 1
    """Updates from one solve to the next; the weights are held in between."""
    weighting: str = "none"
    """A rule that weighs the losses before their gradients meet the method, such as uncertainty; none weighs none."""
    flat_minima: float = 0.0
    """Radius of a sharpness-aware step for each task; 0 makes none."""
    look_ahead: float = 0.0
    """Length of a step that each task takes before its gradient, on other samples; 0 takes none."""
    look_ahead_eta: float = 0.0
    """Size of these steps, in multiples of the gradient, in place of their length; 0 for none."""
    look_ahead_inner: float = 0.8
    """Share of the samples that such a step is of."""
    free: int = 0
    """Updates of plain averaging before each one of the method; 0 makes none."""
    free_end: int | None = None
    """The same at the end of training, `free` being their number at its start; none for a constant number."""
    free_period: int = 1
    """Updates in place of one, where plain averaging alternates with the method."""
    sparse: int = 0
    """Input weights of each neuron of the trunk that train, the largest at the start; 0 trains all."""


def prefixed(prefix: str, state: State) -> State:
    """Keys with ``prefix`` put in front."""
    return {prefix + key: value for key, value in state.items()}


def nested(prefix: str, state: State) -> State:
    """The entries under ``prefix``, without it."""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def noise_size(shape: tuple[int, ...] | None) -> int:
    """Numbers in noise of a shape; 0 for None."""
    return 0 if shape is None else math.prod(shape)


@dataclass(frozen=True)
class Wrapper(Aggregator):
    """Passes everything on to ``base``; its state sits under ``base.``."""

    base: Aggregator

    label: ClassVar[str] = "wrapper"
    extra_needs: ClassVar[frozenset[str]] = frozenset()

    @property
    def info(self) -> AggregatorInfo:
        base = self.base.info
        return dataclasses.replace(
            base, name=f"{self.label}({base.name})", needs=base.needs | self.extra_needs
        )

    def __post_init__(self) -> None:
        check_types(self)
        if self.base.info.direction_only:
            raise AgentError(
                f"{self.label} wraps weights; {self.base.info.name!r} gives directions"
            )

    def init(
        self,
        num_tasks: int,
        *,
        num_params: int | None = None,
        batch_shape: tuple[int, ...] = (),
        device: torch.device | str | None = None,
    ) -> State:
        """State of the base and of the wrapper; see ``Aggregator.init``."""
        own = super().init(
            num_tasks,
            num_params=num_params,
            batch_shape=batch_shape,
            device=device,
        )
        base = self.base.init(
            num_tasks, num_params=num_params, batch_shape=batch_shape, device=device
        )
        return own | prefixed("base.", base)

    def noise_shape(
        self, num_tasks: int, num_params: int | None = None
    ) -> tuple[int, ...] | None:
        """The base's noise."""
        return self.base.noise_shape(num_tasks, num_params)

    def preference_text(self) -> str:
        return self.base.preference_text()

    def _base(self, inputs: Inputs, state: State, eps: float) -> Solution:
        out = self.base._solve(inputs, nested("base.", state), eps)
        return out._replace(state=prefixed("base.", out.state))


@dataclass(frozen=True)
class Every(Wrapper):
    """New weights every k updates, the last ones in between.

    With ``Inputs.step`` (a host number) the solve is skipped in between; without it the device counts, and computes
    and discards. Both give the same weights if ``step`` starts at 0.

    Attributes:
        k: updates from one solve to the next.
    """

    k: int = 1

    label = "every"
    layout: ClassVar = {
        "weights": ("m", 0.0),
        "residual": ("", 0.0),
        "converged": ("", 1.0),
        "count": ("", 0.0),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.k >= 1, "k", self.k, "at least 1")

    @property
    def info(self) -> AggregatorInfo:
        info = super().info
        return dataclasses.replace(info, warmup=self.k * info.warmup)

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        held = {key: state[key] for key in self.layout}
        count = {"count": (state["count"] + 1) % self.k}
        if inputs.step is not None and inputs.step % self.k:
            return Solution(
                held["weights"],
                held["residual"],
                held["converged"] > 0,
                state | count,
            )
        out = self._base(inputs, state, eps)
        new = {
            "weights": out.value,
            "residual": out.residual,
            "converged": out.converged.double(),
        } | out.state
        if inputs.step is None:
            # Asking the device whether the solve is due would wait for it, so both results are computed.
            due = state["count"] == 0
            new = {
                key: torch.where(expand(due, value), value, state[key])
                for key, value in new.items()
            }
        return Solution(
            new["weights"],
            new["residual"],
            new["converged"] > 0,
            new | count,
        )


def skips_solves(aggregator: Aggregator) -> bool:
    """Whether an aggregator, or one that it wraps, does not solve in every update."""
    while isinstance(aggregator, Wrapper):
        if isinstance(aggregator, Every) and aggregator.k > 1:
            return True
        aggregator = aggregator.base
    return False


@dataclass(frozen=True)
class Ema(Wrapper):
    """CR-MOGM: ``λ ← β λ + (1 − β) w``, starting from the first weights.

    Attributes:
        beta: β.
    """

    beta: float = 0.9

    label = "ema"
    layout: ClassVar = {"average": ("m", 0.0), "started": ("", 0.0)}

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 <= self.beta < 1, "beta", self.beta, "in [0, 1)")

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        out = self._base(inputs, state, eps)
        started = (state["started"] > 0).unsqueeze(-1)
        smoothed = torch.lerp(out.value, state["average"], self.beta)
        average = torch.where(started, smoothed, out.value)
        new = {
            "average": average,
            "started": state["started"] * 0 + 1,
        }
        return out._replace(value=average, state=out.state | new)


@dataclass(frozen=True)
class Subset(Wrapper):
    """Solves for ``n`` tasks drawn without replacement at every update; the others get weight 0.

    A method whose update is an average over tasks stays one: over the drawn tasks instead of all, which is the same in
    expectation for the mean. Only a base that sums (``info.sums``) is multiplied by m/n.

    The base must be stateless, since the tasks change under it. Its noise comes first, the draw's m numbers last.

    Attributes:
        n: tasks per update; n ≥ m takes all.
    """

    n: int = 4

    label = "subset"
    extra_needs = frozenset({"noise"})

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.n >= 1, "n", self.n, "at least 1")
        # A state that is not empty is one per task, whose tasks would change.
        if self.base.init(2, num_params=1):
            raise AgentError(
                f"subset wraps stateless aggregators; {self.base.info.name!r} keeps a state per task"
            )

    def noise_shape(self, num_tasks: int, num_params: int | None = None) -> tuple[int, ...]:
        """Flat: the base's noise for n tasks, then m numbers."""
        base = self.base.noise_shape(min(self.n, num_tasks), num_params)
        return (noise_size(base) + num_tasks,)

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        zeros = task_zeros(inputs)
        noise = given(inputs.noise)
        m = zeros.shape[-1]
        n = min(self.n, m)
        chosen = noise[..., -m:].argsort(-1)[..., :n]
        shape = self.base.noise_shape(n)
        part = dataclasses.replace(
            inputs,
            losses=_apply(_take, inputs.losses, chosen),
            success=_apply(_take, inputs.success, chosen),
            gramian=_apply(_square, inputs.gramian, chosen),
            cross_gramian=_apply(_square, inputs.cross_gramian, chosen),
            jacobian=_apply(_rows, inputs.jacobian, chosen),
            preferences=_apply(_take_shares, inputs.preferences, chosen),
            noise=None if shape is None else noise[..., :-m].unflatten(-1, shape),
        )
        out = self._base(part, state, eps)
        factor = m / n if self.base.info.sums else 1.0
        scaled = out.value * factor
        return out._replace(value=zeros.scatter(-1, chosen, scaled))


def _apply(
    pick: Callable[[Tensor, Tensor], Tensor], x: Tensor | None, index: Tensor
) -> Tensor | None:
    return None if x is None else pick(x, index)


def _take(x: Tensor, index: Tensor) -> Tensor:
    return x.gather(-1, index)


def _take_shares(x: Tensor, index: Tensor) -> Tensor:
    taken = x.gather(-1, index)
    return taken / or_one(taken.sum(-1, keepdim=True))


def _rows(x: Tensor, index: Tensor) -> Tensor:
    columns = index.unsqueeze(-1).expand(*index.shape, x.shape[-1])
    return x.gather(-2, columns)


def _square(x: Tensor, index: Tensor) -> Tensor:
    rows = _rows(x, index)
    columns = index.unsqueeze(-2).expand_as(rows[..., : index.shape[-1]])
    return rows.gather(-1, columns)


@dataclass(frozen=True)
class Ridge(Wrapper):
    """Adds ``ridge`` times the mean squared gradient norm to the diagonal of the Gramian.

    Attributes:
        ridge: in units of trace / m (1e-3 is common with Nash-MTL).
    """

    ridge: float = 1e-3

    label = "ridge"

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.ridge >= 0, "ridge", self.ridge, "at least 0")
        if "gramian" not in self.base.info.needs:
            raise AgentError(
                f"ridge has no effect on {self.base.info.name!r}, which does not use the Gramian"
            )

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        gramian = given(inputs.gramian)
        mean_squared = diagonal(gramian).mean(-1, keepdim=True)
        size = (mean_squared * self.ridge).expand_as(gramian[..., 0])
        ridged = add_diagonal(gramian, size)
        return self._base(dataclasses.replace(inputs, gramian=ridged), state, eps)


Policy = Literal["none", "simplex", "mean-norm", "unit-norm", "max-norm"]


@dataclass(frozen=True)
class Rescale(Wrapper):
    """Sets the length of the update, so that methods can be compared at equal step size.

    Attributes:
        policy: ``simplex`` makes Σ|w| = 1, ``mean-norm`` gives the update the length of the mean gradient,
            ``unit-norm`` length 1, ``max-norm`` at most length 1. A zero update stays zero.
    """

    policy: Policy = "none"

    label = "rescale"
    extra_needs = frozenset({"gramian"})

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        out = self._base(inputs, state, eps)
        if self.policy == "none":
            return out
        if self.policy == "simplex":
            size = out.value.abs().sum(-1, keepdim=True)
            return out._replace(value=out.value / or_one(size))
        gramian = given(inputs.gramian)
        squared = (out.value * matvec(gramian, out.value)).sum(-1, keepdim=True)
        norm = squared.clamp(min=0).sqrt()
        goal = torch.ones_like(norm)
        if self.policy == "mean-norm":
            of_mean = gramian.mean((-1, -2)).clamp(min=0)
            goal = of_mean.sqrt().unsqueeze(-1)
        # ``goal`` is 1 here, so shorter updates keep their length.
        if self.policy == "max-norm":
            goal = torch.minimum(goal, norm)
        return out._replace(value=out.value * ratio(goal, norm))
