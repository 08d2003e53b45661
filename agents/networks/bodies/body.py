"""What an architecture declares: its parameters, and the features that it makes of what the encoder gives.

A body is a frozen dataclass whose fields are its settings. It is called task-major, when acting too: the axis ``T``
says which task a row is of.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from mtrl.agents.networks.layers import Named, Size
from mtrl.agents.networks.parameters import Parameter


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


class Body(ABC):
    """An architecture between encoder and head.

    Attributes:
        encoder_tied: whose losses train the encoder that actor and critic then share, as of ``Parameter.tied``; None
            where each has its own.
        uses_share: whether features depend on the share of training done.
        mixes_tasks: whether ``extra`` gives a loss.
    """

    encoder_tied: ClassVar[Literal["critic", "both"] | None] = None
    uses_share: ClassVar[bool] = False
    mixes_tasks: ClassVar[bool] = False

    @property
    def noise_size(self) -> int:
        """Numbers that a row draws in acting and in the losses, such as those of stochastic routing.

        Targets and deterministic actions draw none.
        """
        return 0

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

    def num_features(self, size: Size) -> int:
        """F."""
        return size.width

    def extra(self, p: Named, x: Tensor, step: Step) -> Tensor:
        """A loss of each member ``[K]`` that is none of a single task; its gradient is added after aggregation.

        Args:
            p, x, step: as of ``features``.
        """
        raise NotImplementedError(f"{type(self).__name__} has no loss of its own")
