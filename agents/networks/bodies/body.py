"""What an architecture declares: its parameters, and the features that it makes of what the encoder gives.

A body is a frozen dataclass whose fields are its settings. It is called task-major, when acting too: the axis ``T``
says which task a row is of.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple, Self

from torch import Tensor

from mtrl.agents.networks.layers import Named, Size
from mtrl.agents.networks.parameters import Parameter
from mtrl.agents.networks.shown import Matrices, Shown


@dataclass(frozen=True)
class Step:
    """What a forward pass is told besides parameters and inputs.

    Attributes:
        size: the body's sizes.
        noise: uniform numbers in [0, 1) of each row, ``[S, T, b, n]`` with ``n`` the body's ``noise_size``; None where
            the pass is to be deterministic.
        share: of training done, from 0 to 1.
    """

    size: Size
    noise: Tensor | None = None
    share: float = 0.0


class Look(NamedTuple):
    """What a body sees that shows itself.

    Attributes:
        p, x, step: as of ``Body.features``.
        heads: the heads' weights ``[K, G, O, F]``.
    """

    p: Named
    x: Tensor
    step: Step
    heads: Tensor


@dataclass(frozen=True)
class Stepped:
    """What a correction after an optimizer step is told besides parameters.

    Attributes:
        size: the body's sizes.
        masked: bool ``[S, T]``, tasks that ``mask`` left out of the step; None where nothing masks.
        noise: uniform numbers in [0, 1) of each task, ``[S, T, n]`` with ``n`` the body's ``redraw_size``; None where
            that is 0.
    """

    size: Size
    masked: Tensor | None = None
    noise: Tensor | None = None


@dataclass(frozen=True)
class Phase:
    """What a phase of training changes.

    Attributes:
        values: parameters that begin the phase with other values, by name.
        frozen: names of the parameters that do not train in it.
    """

    values: Named = field(default_factory=dict)
    frozen: Collection[str] = ()


class Body(ABC):
    """An architecture between encoder and head.

    Attributes:
        uses_share: whether features depend on the share of training done.
        draws_by_task: whether all rows of a task use the numbers that its first row drew.
        wants_one_hot: whether the last T of its inputs are the task's one-hot code, behind what the encoder gives.
        corrects_heads: whether ``heads_after_step`` changes the heads' weights.
    """

    uses_share: ClassVar[bool] = False
    draws_by_task: ClassVar[bool] = False
    wants_one_hot: ClassVar[bool] = False
    corrects_heads: ClassVar[bool] = False

    @property
    def encoder_tied(self) -> Literal["critic", "both"] | None:
        """Whose losses train the encoder that actor and critic then share, as of ``Parameter.tied``; None if none."""
        return None

    def for_state_values(self) -> Self:
        """This body, or one with other settings for agents whose critic values states and not actions."""
        return self

    @property
    def masks_tasks(self) -> bool:
        """Whether ``mask`` leaves tasks out of updates."""
        return False

    @property
    def corrects_steps(self) -> bool:
        """Whether ``after_step`` changes parameters."""
        return False

    @property
    def noise_size(self) -> int:
        """Numbers that a row draws in acting and in the losses, such as those of stochastic routing.

        Targets and deterministic actions draw none. MTPPO's losses take the numbers of the actor that acted, since its
        ratios compare probabilities of one action along one route.
        """
        return 0

    @property
    def mixes_tasks(self) -> bool:
        """Whether ``extra`` gives a loss."""
        return False

    @property
    def phases(self) -> tuple[float, ...]:
        """Shares of training, ascending and above 0, at which a phase begins that ``on_phase`` describes."""
        return ()

    @abstractmethod
    def parameters(self, size: Size) -> dict[str, Parameter]:
        """Every parameter by name, with its kind and its initial values."""

    @abstractmethod
    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        """Features ``[K, T, b, F]`` float32 of ``x`` ``[S, T, b, inputs]``; consecutive members share an input.

        An encoder with parameters gives each member an input of its own, ``[K, T, b, inputs]``.

        Args:
            p: the body's parameters ``[K, G, ...]``, with ``G`` as in ``parameters``.
        """

    def constants(self, p: Named) -> Named:
        """What ``features`` takes in place of ``p`` while parameters stay the same, as in acting: ``p`` by default."""
        return p

    @property
    def shown(self) -> Mapping[str, Shown]:
        """The matrices that ``shows`` gives, by one of the names in ``MEANINGS``."""
        return {}

    def shows(self, look: Look) -> Matrices:
        """Matrices ``[K, rows, columns]`` that users look at, as ``shown`` declares them; means over rows of a task."""
        return {}

    def num_features(self, size: Size) -> int:
        """F."""
        return size.width

    def num_inputs(self, features: int, num_tasks: int) -> int:
        """Inputs of a row for which the encoder gives ``features``."""
        return features + num_tasks if self.wants_one_hot else features

    def extra(self, p: Named, x: Tensor, step: Step) -> Tensor:
        """A loss of each member ``[K]`` that is none of a single task; its gradient is added after aggregation.

        Args:
            p, x, step: as of ``features``.
        """
        raise NotImplementedError(f"{type(self).__name__} has no loss of its own")

    def mask(self, losses: Tensor) -> Tensor:
        """Factors ``[S, T]`` of the tasks' losses in one update, 0 for tasks to leave out, else 1.

        Args:
            losses: ``[S, T]``, of actor, critics and temperature together, before the update.
        """
        raise NotImplementedError(f"{type(self).__name__} masks no task")

    def redraw_size(self, size: Size) -> int:
        """Uniform numbers of each task that ``after_step`` takes."""
        return 0

    def after_step(self, p: Named, step: Stepped) -> Named:
        """The parameters, by name, that are to have other values than an optimizer step gave them.

        Called after every step of the trained networks, not for target networks, which follow. Tied parameters are
        asked for once, as the critic's.

        Args:
            p: the body's parameters ``[K, G, ...]`` float32 after the step.
        """
        raise NotImplementedError(f"{type(self).__name__} corrects no step")

    def heads_after_step(self, weight: Tensor, step: Stepped) -> Tensor:
        """The weights that heads are to have instead of those ``[K, G, O, F]`` that an optimizer step gave them.

        Called as ``after_step`` is. ``G`` is 1 for a head that all tasks share.
        """
        raise NotImplementedError(f"{type(self).__name__} corrects no heads")

    def on_phase(self, p: Named, fresh: Named, number: int, size: Size) -> Phase:
        """What changes when the phase ``number`` begins, from 1 for the first of ``phases``; no shape does.

        Called between updates, for target networks too. The network's optimizer starts afresh.

        Args:
            p: the body's parameters ``[K, G, ...]`` float32.
            fresh: new initial values of them all.
        """
        raise NotImplementedError(f"{type(self).__name__} has no phases")
