"""The contract of aggregators: pure functions from per-task quantities to weights, with declared needs and state."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from mtrl.agents.agent import AgentError
from mtrl.agents.aggregators.gramians import combine, gramian
from mtrl.agents.aggregators.linalg import may_stop

State = dict[str, Tensor]


@dataclass(frozen=True)
class AggregatorInfo:
    """The needs and limits of a method, which an agent reads before it uses the method.

    Attributes:
        name: registry name.
        needs: fields of ``Inputs`` the method cannot do without.
        source: paper and equation.
        needs_positive_loss: the rule takes a logarithm or a ratio of losses and is undefined where a loss can be
            zero or negative (SAC's actor loss changes sign).
        direction_only: the update is not a weighted sum that the Gramian determines; call ``direction``.
        shares: how a curriculum's shares of the tasks reach the method. ``losses``: as factors of the losses, which is
            what the method makes of them anyway. ``preferences``: as ``Inputs.preferences``, with gradients of the
            plain losses. ``groups``: tasks leave the solve where their share is 0, and the others are equal. ``none``:
            the method needs every task in every update.
        scale_free: the update stays the same where a task's loss is multiplied by a positive number.
        sums: the update's length grows with the number of tasks, as that of a sum does.
        warmup: updates during which the method only measures, and acts as a simpler one.
        alternates: updates follow different rules by their number on the host (``Aggregator.at``).
        uses_share: the rule depends on the share of training done.
    """

    name: str
    needs: frozenset[str]
    source: str
    needs_positive_loss: bool = False
    direction_only: bool = False
    shares: Literal["losses", "preferences", "groups", "none"] = "none"
    scale_free: bool = False
    sums: bool = False
    warmup: int = 0
    alternates: bool = False
    uses_share: bool = False


@dataclass(frozen=True)
class Inputs:
    """Per-task quantities of one update; leading dimensions ``...`` are independent problems (seeds).

    Attributes:
        gramian: ``[..., m, m]``, ``J Jᵀ``.
        losses: ``[..., m]``.
        success: ``[..., m]``, success rate in [0, 1].
        jacobian: ``[..., m, P]``, one row per task.
        cross_gramian: ``[..., m, m]``, ``J₁ J₂ᵀ`` of two independent half batches.
        perturbed_jacobian: ``[..., m, P]``, row i at the parameters moved by ``perturbations(J)[i]``.
        noise: uniform on [0, 1), ``[..., *noise_shape(m, P)]``, drawn by the caller.
        preferences: ``[..., m]`` ≥ 0 with sum 1, the tasks' shares; a task at 0 is to take no part, and its gradient is
            zero. None: 1/m each. Optional for every method.
        step: number of the update on the host; lets ``every`` skip a solve. None: decided on the device.
    """

    gramian: Tensor | None = None
    losses: Tensor | None = None
    success: Tensor | None = None
    jacobian: Tensor | None = None
    cross_gramian: Tensor | None = None
    perturbed_jacobian: Tensor | None = None
    noise: Tensor | None = None
    preferences: Tensor | None = None
    step: int | None = None


# Trailing dimensions of each field after the batch.
_RANK = {
    "gramian": 2,
    "losses": 1,
    "success": 1,
    "jacobian": 2,
    "cross_gramian": 2,
    "perturbed_jacobian": 2,
    "preferences": 1,
}
# Read where they are given, needed by no method.
_OPTIONAL = frozenset({"preferences"})
_SQUARE = {"gramian", "cross_gramian"}


class Solution(NamedTuple):
    """Result of ``_solve`` in float64: weights (or a direction), residual, whether it converged, and the new state."""

    value: Tensor
    residual: Tensor
    converged: Tensor
    state: State


class Weights(NamedTuple):
    """Result of ``Aggregator.weights``.

    Attributes:
        weights: ``[..., m]`` with ``d = Jᵀ w``; NaN where inputs were not finite.
        residual: error of the method's equations, ``[...]``.
        converged: whether the residual is within tolerance, ``[...]``.
        finite: whether the inputs were finite, ``[...]``.
    """

    weights: Tensor
    residual: Tensor
    converged: Tensor
    finite: Tensor


class Direction(NamedTuple):
    """Update ``[..., P]`` (to be descended) with the same verdicts as ``Weights``."""

    direction: Tensor
    residual: Tensor
    converged: Tensor
    finite: Tensor


@dataclass(frozen=True)
class Aggregator(ABC):
    """A gradient method. Subclasses are frozen dataclasses whose fields are the method's parameters.

    Both entry points are pure and without host synchronisation: no global random numbers, no in-place change of inputs
    or state, no Python branch on data. Problems with a non-finite input leave their part of the state unchanged.
    """

    # State by name: axes ("m" tasks, "P" parameters) and initial value. Float32 where it has parameters, else float64.
    layout: ClassVar[dict[str, tuple[str, float]]] = {}

    @property
    @abstractmethod
    def info(self) -> AggregatorInfo: ...

    @abstractmethod
    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        """The method itself, on finite float64 inputs; ``eps`` is the resolution of the Gramian given."""

    def init(
        self,
        num_tasks: int,
        *,
        num_params: int | None = None,
        batch_shape: tuple[int, ...] = (),
        device: torch.device | str | None = None,
    ) -> State:
        """State before the first update, ``[*batch_shape, ...]``; ``{}`` for a stateless method.

        Args:
            num_params: P, for methods that remember gradients.
            batch_shape: the leading dimensions of the inputs.

        Raises:
            AgentError: ``num_tasks`` < 1, or ``num_params`` missing where the method needs it.
        """
        if num_tasks < 1:
            raise AgentError(f"num_tasks={num_tasks}: at least one task is needed")
        sizes = {"m": num_tasks, "P": num_params}
        state = {}
        for name, (axes, value) in self.layout.items():
            if "P" in axes and num_params is None:
                raise AgentError(
                    f"num_params: {self.info.name!r} remembers gradients and needs their length"
                )
            shape = [*batch_shape, *(sizes[axis] or 0 for axis in axes)]
            dtype = torch.float32 if "P" in axes else torch.float64
            state[name] = torch.full(shape, value, dtype=dtype, device=device)
        return state

    def noise_shape(
        self, num_tasks: int, num_params: int | None = None
    ) -> tuple[int, ...] | None:
        """Shape, after the batch, of the uniform noise the method consumes per update; None if it draws nothing."""
        return None

    def preference_text(self) -> str:
        """The preferences that the settings name, as in ``reach-v3:2/push-v3:1``; empty if they name none."""
        return ""

    def at(self, step: int | None, share: float) -> Aggregator:
        """The rule of one update; the caller asks before it forms any gradient.

        It takes the state of this aggregator, and gives it back as it is where it is another method's turn.

        Args:
            step: number of the update on the host; None only for methods that do not alternate.
            share: of training done, from 0 to 1.
        """
        return self

    def weights(self, inputs: Inputs, state: State) -> tuple[Weights, State]:
        """Weights of one update, float32 (float64 if the inputs are).

        Raises:
            AgentError: a needed input is missing or misshapen, or the method gives directions only.
        """
        if self.info.direction_only:
            raise AgentError(
                f"aggregator {self.info.name!r} gives no weights; call direction with the jacobian"
            )
        solution, finite, dtype = self._run(inputs, state)
        return Weights(*_verdict(solution, finite, dtype)), solution.state

    @torch.no_grad()
    def direction(self, inputs: Inputs, state: State) -> tuple[Direction, State]:
        """Update direction ``[..., P]``; needs ``jacobian`` whatever the method. The Gramian is formed if missing."""
        if inputs.jacobian is None:
            raise AgentError(f"aggregator {self.info.name!r}: direction needs the jacobian")
        if self.info.direction_only:
            solution, finite, dtype = self._run(inputs, state)
            return Direction(*_verdict(solution, finite, dtype)), solution.state
        # Callers with a Jacobian need not form the Gramian themselves.
        if "gramian" in self.info.needs and inputs.gramian is None:
            inputs = dataclasses.replace(inputs, gramian=gramian(inputs.jacobian))
        out, state = self.weights(inputs, state)
        direction = combine(given(inputs.jacobian), out.weights)
        finite = out.finite & torch.isfinite(direction).all(-1)
        return Direction(
            direction,
            out.residual,
            out.converged & finite,
            finite,
        ), state

    @torch.no_grad()
    def _run(self, inputs: Inputs, state: State) -> tuple[Solution, Tensor, torch.dtype]:
        batch, num_tasks, present = self._check(inputs)
        self._check_state(state, batch, num_tasks)
        finite = torch.stack([_finite(x, len(batch)) for x in present.values()]).all(0)
        # Noise says nothing about the precision of the problem.
        dtypes = {x.dtype for name, x in present.items() if name != "noise"}
        out_dtype = torch.float64 if torch.float64 in dtypes else torch.float32
        gramian_dtype = present["gramian"].dtype if "gramian" in present else torch.float64
        eps = torch.finfo(gramian_dtype).eps
        clean: dict[str, Any] = {}
        # Where all is known to be finite, Jacobians and states, which are large, are not copied.
        untouched = may_stop(finite)
        for name, x in present.items():
            wide = _wide(x) if "jacobian" in name else x.double()
            if not untouched:
                wide = torch.where(expand(finite, wide), wide, torch.zeros_like(wide))
            # Rounding of the products can leave a Gramian a little asymmetric.
            clean[name] = (wide + wide.mT) / 2 if name == "gramian" else wide
        solution = self._solve(dataclasses.replace(inputs, **clean), state, eps)
        if self.info.needs_positive_loss:
            positive = (clean["losses"] > 0).all(-1)
            solution = solution._replace(converged=solution.converged & positive)
        if not untouched:
            kept = {}
            for key, value in solution.state.items():
                kept[key] = torch.where(expand(finite, value), value, state[key])
            solution = solution._replace(state=kept)
        return solution, finite, out_dtype

    def _check_state(self, state: State, batch: tuple[int, ...], num_tasks: int) -> None:
        for name, (axes, _) in self.layout.items():
            if name not in state:
                raise AgentError(
                    f"state {name!r}: missing; start from init() of {self.info.name!r}"
                )
            shape = tuple(state[name].shape)
            lead = len(batch)
            per_task = axes.startswith("m")
            tasks = shape[lead] if per_task and len(shape) > lead else num_tasks
            if shape[:lead] != batch or len(shape) != lead + len(axes) or tasks != num_tasks:
                known = shape[-len(axes)] if per_task else "other"
                made = f"{known} tasks or another batch"
                raise AgentError(
                    f"state {name!r}: made for {made}, the inputs have {num_tasks} tasks, batch {batch}"
                )

    def _check(self, inputs: Inputs) -> tuple[tuple[int, ...], int, dict[str, Tensor]]:
        """Batch shape, tasks and the tensors the method uses, checked on the host by shape only."""
        name = self.info.name
        batch: tuple[int, ...] | None = None
        num_tasks = 0
        present: dict[str, Tensor] = {}
        needs = self.info.needs
        if not needs & _RANK.keys():
            # The method only asks how many tasks there are: any input tells.
            given_fields = [field for field in _RANK if getattr(inputs, field) is not None]
            needs = needs | {given_fields[0] if given_fields else "losses"}
        for field in (*_RANK, "noise"):
            x = getattr(inputs, field)
            if field not in needs and (field not in _OPTIONAL or x is None):
                continue
            if x is None:
                raise AgentError(f"aggregator {name!r} needs {field}, which was not given")
            if field == "noise":
                present[field] = x
                continue
            rank = _RANK[field]
            lead = x.ndim - rank
            wrong = lead < 0 or 0 in x.shape[lead:]
            if field in _SQUARE and not wrong:
                wrong = x.shape[-1] != x.shape[-2]
            if wrong:
                raise AgentError(f"{field}: shape {tuple(x.shape)} is not {_shape_name(field)}")
            own_batch = tuple(x.shape[:lead])
            tasks = x.shape[lead]
            if batch is not None and (own_batch, tasks) != (batch, num_tasks):
                raise AgentError(
                    f"{field}: shape {tuple(x.shape)} does not go with {num_tasks} tasks, batch {batch}"
                )
            batch = own_batch
            num_tasks = tasks
            present[field] = x
        assert batch is not None, "one input with a task axis is always required"
        if "noise" in present:
            num_params = None if inputs.jacobian is None else inputs.jacobian.shape[-1]
            want = batch + (self.noise_shape(num_tasks, num_params) or ())
            shape = tuple(present["noise"].shape)
            if shape != want:
                raise AgentError(f"noise: shape {shape} should be {want} for {name!r}")
        return batch, num_tasks, present


def check(
    ok: bool,
    name: str,
    value: object,
    allowed: str,
) -> None:
    """Raise AgentError unless ``ok``: the one sentence every bad parameter gets."""
    if not ok:
        raise AgentError(f"{name}={value!r} is not allowed; it must be {allowed}")


def check_types(params: Aggregator) -> None:
    """Raise AgentError if a parameter does not have its declared plain type."""
    for name, hint in get_type_hints(type(params)).items():
        if get_origin(hint) is ClassVar:
            continue
        value = getattr(params, name)
        if get_origin(hint) is Literal:
            check(
                value in get_args(hint),
                name,
                value,
                f"one of {', '.join(map(str, get_args(hint)))}",
            )
        elif hint is float:
            # In Python a bool is an int.
            number = isinstance(value, int | float) and not isinstance(value, bool)
            check(
                number and math.isfinite(value),
                name,
                value,
                "a finite number",
            )
        elif hint is int:
            check(
                isinstance(value, int) and not isinstance(value, bool),
                name,
                value,
                "a whole number",
            )
        elif hint is bool:
            check(
                isinstance(value, bool),
                name,
                value,
                "true or false",
            )


def parse_preference(text: str) -> dict[str, float]:
    """Numbers by task from ``reach-v3:2/push-v3:1``. Raises AgentError for another form or numbers not above 0."""
    found: dict[str, float] = {}
    for item in filter(None, text.split("/")):
        name, _, number = item.rpartition(":")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        fine = bool(name) and name not in found and 0 < value < math.inf
        check(
            fine,
            "preference",
            text,
            "TASK:NUMBER/TASK:NUMBER/..., each task once, numbers above 0",
        )
        found[name] = value
    return found


def exact(value: Tensor, state: State | None = None) -> Solution:
    """A solution in closed form: residual zero, always converged."""
    zero = torch.zeros_like(value[..., 0], dtype=torch.float64)
    return Solution(
        value,
        zero,
        torch.ones_like(zero, dtype=torch.bool),
        state or {},
    )


def given(x: Tensor | None) -> Tensor:
    """Narrow an optional input that ``_check`` has already required."""
    assert x is not None
    return x


def preferences_of(inputs: Inputs, like: Tensor) -> Tensor:
    """The tasks' preferences ``[..., m]``, of sum 1; 1/m each if none are given. ``like`` is ``[..., m]``."""
    if inputs.preferences is None:
        return torch.full_like(like, 1 / like.shape[-1])
    return inputs.preferences


def task_zeros(inputs: Inputs) -> Tensor:
    """Zeros ``[..., m]`` for methods that only ask how many tasks there are."""
    field = next(f for f in _RANK if getattr(inputs, f) is not None)
    x: Tensor = getattr(inputs, field)
    return torch.zeros_like(x[..., 0] if _RANK[field] == 2 else x, dtype=torch.float64)


def _verdict(
    s: Solution, finite: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    value = torch.where(expand(finite, s.value), s.value, torch.nan).to(dtype)
    residual = torch.where(finite, s.residual, torch.nan).to(dtype)
    return value, residual, s.converged & finite, finite


def _wide(x: Tensor) -> Tensor:
    """At least float32; Jacobians are too large to become float64."""
    return x if x.dtype == torch.float64 else x.float()


def _finite(x: Tensor, batch_rank: int) -> Tensor:
    # NaN and infinities reach the extremes, so one pass without a mask of the whole tensor finds them.
    low, high = x.flatten(batch_rank).aminmax(dim=-1)
    return torch.isfinite(low) & torch.isfinite(high)


def expand(mask: Tensor, like: Tensor) -> Tensor:
    """Add trailing axes so that a per-problem ``[...]`` mask broadcasts against ``like``."""
    missing = like.ndim - mask.ndim
    return mask.reshape(mask.shape + (1,) * missing)


def _shape_name(field: str) -> str:
    if field in _SQUARE:
        return "[..., tasks, tasks]"
    return "[..., tasks, parameters]" if _RANK[field] == 2 else "[..., tasks]"
