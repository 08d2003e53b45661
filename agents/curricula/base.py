"""The contract of curricula: pure functions from statistics of each task to the plan of the next round."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from mtrl.agents.errors import AgentError, unknown

State = dict[str, Tensor]
SHARED: frozenset[str] = frozenset({"multi-head", "one-hot"})


@dataclass(frozen=True)
class CurriculumInfo:
    """The needs and limits of a curriculum, which an agent reads before it uses it.

    Attributes:
        name: registry name.
        source: paper.
        heads: settings of ``heads`` it goes with.
        gramian: whether it asks for the Gramian of averaged task gradients, which the agent must then track.
        couples: whether it couples the parameters that tasks own; it is then a ``CoupledCurriculum``.
        paces: whether it lets tasks pause (``Plan.active``), which needs an on-policy agent.
        shares: whether the tasks' shares are always ``equal``, 0 for some and equal for the others (``groups``), or
            anything (``graded``).
    """

    name: str
    source: str
    heads: frozenset[str] = SHARED
    gramian: bool = False
    couples: bool = False
    paces: bool = False
    shares: Literal["equal", "groups", "graded"] = "graded"


@dataclass(frozen=True)
class Tasks:
    """The tasks a curriculum works on.

    Attributes:
        task_names: in the order of the suite.
        builds_on: bool ``[T, T]``, True at ``[t, j]`` where task t builds directly on task j (``envs.task_graph``).
    """

    task_names: tuple[str, ...]
    builds_on: Tensor

    @property
    def num_tasks(self) -> int:
        return len(self.task_names)


@dataclass(frozen=True)
class Statistics:
    """Statistics of each task when a round begins; ``[T]`` float64 on the CPU unless said otherwise.

    Attributes:
        success: success rate of recent training episodes, newer ones counting more, in [0, 1].
        episode_return: mean undiscounted return of recent training episodes, newer ones counting more.
        episodes: training episodes finished so far.
        loss: mean critic loss of the updates of the last round; 0 before the first.
        gramian: ``[T, T]``, of task gradients averaged over updates, where the curriculum asks for it.
        updates: gradient steps so far.
    """

    success: Tensor
    episode_return: Tensor
    episodes: Tensor
    loss: Tensor
    gramian: Tensor | None = None
    updates: int = 0


class Plan(NamedTuple):
    """The next round.

    Attributes:
        share: ``[T]``, sums to 1: each task's share of the gradient. The loss of task t is multiplied by ``T share_t``
            before tasks are reduced to one update.
        coupled: whether the round couples the tasks' parameters (CAMRL's multi-task mode).
        active: bool ``[T]``, at least one True: the tasks whose environments step until the next decision, or None for
            all. A task that pauses costs no env steps and learns from what it did before.
        log: what to show of the decision, by name: a scalar, ``[T]``, or ``[T, T]`` (an image).
        cycle: ``[C, T]``, shares of the updates of the round in turn, for agents whose rounds are of many updates
            (on-policy ones, of as many as there are minibatches); the share is then their mean. None: ``share`` in all.
    """

    share: Tensor
    coupled: bool = False
    active: Tensor | None = None
    log: dict[str, Tensor] = {}  # noqa: RUF012
    cycle: Tensor | None = None

    @property
    def period(self) -> int:
        """Updates after which the shares repeat."""
        return 1 if self.cycle is None else len(self.cycle)


@dataclass(frozen=True)
class Curriculum(ABC):
    """Decides which tasks train next and with what share. Subclasses are frozen dataclasses of parameters.

    Pure: no files, clocks or global random numbers; neither the statistics nor the state are changed in place.
    """

    round_steps: int = 500
    """Env steps of each task from one decision to the next, for MTSAC; MTPPO decides at every rollout."""

    @property
    @abstractmethod
    def info(self) -> CurriculumInfo: ...

    def check(self, tasks: Tasks) -> None:  # noqa: B027 - most curricula go with any tasks
        """Raise AgentError if a parameter does not go with these tasks."""

    def init(self, tasks: Tasks) -> State:
        """State before the first round; ``{}`` for a stateless curriculum."""
        return {}

    @property
    def draws(self) -> int:
        """Uniform numbers on [0, 1) that a decision consumes."""
        return 0

    def wants_gramian(self, state: State, updates: int) -> bool:
        """Whether the coming decision, after ``updates`` gradient steps, looks at ``Statistics.gramian``."""
        return False

    @abstractmethod
    def plan(
        self, stats: Statistics, state: State, noise: Tensor, tasks: Tasks
    ) -> tuple[Plan, State]:
        """The next round.

        Args:
            stats: at the end of the last round.
            state: from ``init`` or the last call.
            noise: uniform ``[draws]``.

        Returns:
            The plan and the new state.
        """

    def __post_init__(self) -> None:
        check_types(self)
        require(
            self,
            self.round_steps >= 1,
            "round_steps",
            "at least 1",
        )


class Geometry(NamedTuple):
    """Relations between the tasks, ``[T, T]`` float64 on the CPU.

    Attributes:
        products: inner products of the parameter vectors that the tasks own.
        similarity: of their policies' actions: 0 where equal, negative elsewhere.
    """

    products: Tensor
    similarity: Tensor


class Turn(NamedTuple):
    """One position of a coupled round: a task, and the combination of all tasks' parameters that pulls it.

    Attributes:
        task: index of the task.
        combination: ``[T]`` non-negative weights c; task t's loss gains ``strength ‖w_t − Σ_j c_j w_j‖²``, where the
            other tasks' parameters are constants.
        strength: factor of the pull.
    """

    task: int
    combination: Tensor
    strength: float


@dataclass(frozen=True)
class CoupledCurriculum(Curriculum):
    """A curriculum whose coupled rounds take the tasks one after the other, in an order found on the way."""

    @abstractmethod
    def turn(self, geometry: Geometry, state: State, tasks: Tasks) -> tuple[Turn, State]:
        """The next position of a coupled round; called once for each task, with the geometry of that moment."""

    @abstractmethod
    def log(self, state: State) -> dict[str, Tensor]:
        """Values to log after a coupled round, as in ``Plan.log``."""


def uniform_share(num_tasks: int) -> Tensor:
    """``[T]``, 1/T each."""
    return torch.full((num_tasks,), 1 / num_tasks, dtype=torch.float64)


def proportional(score: Tensor, floor: float) -> Tensor:
    """Shares proportional to ``score`` ``[T]`` ≥ 0, mixed with ``floor`` of equal shares; equal where all are 0."""
    # ``floor`` keeps every task in training, whatever its score.
    even = torch.full_like(score, 1 / len(score))
    total = score.sum()
    safe_total = torch.where(total > 0, total, 1.0)
    share = torch.where(total > 0, score / safe_total, even)
    return (1 - floor) * share + floor * even


def return_gap(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Distance of ``value`` from ``high``, as a share of the range; 1 where there is no range yet."""
    span = high - low
    gap = (high - value) / torch.where(span > 0, span, 1.0)
    return torch.where(span > 0, gap, 1.0)


def require(
    params: Curriculum,
    ok: bool,
    name: str,
    allowed: str,
) -> None:
    """Raise AgentError unless ``ok``: the one sentence every bad parameter gets."""
    if not ok:
        raise AgentError(
            f"curriculum: {name}={getattr(params, name)!r} is not allowed; it must be {allowed}"
        )


def task_index(name: str, tasks: Tasks, field: str) -> int:
    """Position of a task. Raises AgentError for an unknown one, naming the nearest."""
    if name not in tasks.task_names:
        raise unknown(f"curriculum: {field}", name, tasks.task_names)
    return tasks.task_names.index(name)


def check_types(params: Curriculum) -> None:
    """Raise AgentError if a parameter does not have its declared plain type."""
    for field in dataclasses.fields(params):
        hint: Any = get_type_hints(type(params))[field.name]
        value = getattr(params, field.name)
        if get_origin(hint) is ClassVar:
            continue
        if get_origin(hint) is Literal:
            require(
                params,
                value in get_args(hint),
                field.name,
                f"one of {', '.join(map(str, get_args(hint)))}",
            )
        elif hint is bool:
            require(
                params,
                isinstance(value, bool),
                field.name,
                "true or false",
            )
        elif hint is float:
            # In Python a bool is an int.
            number = isinstance(value, int | float) and not isinstance(value, bool)
            require(
                params,
                number and math.isfinite(value),
                field.name,
                "a finite number",
            )
        elif hint is int:
            require(
                params,
                isinstance(value, int) and not isinstance(value, bool),
                field.name,
                "a whole number",
            )
        elif hint is str:
            require(
                params,
                isinstance(value, str),
                field.name,
                "a text",
            )
