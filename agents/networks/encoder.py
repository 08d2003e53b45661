"""What stands before a body: features of observations. Here the contract, and the one that changes nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from mtrl.agents.networks.layers import Named
from mtrl.agents.networks.parameters import Parameter


class Encoder(ABC):
    """Turns observations ``[S, T, b, in]`` into features.

    ``look`` precomputes the part that depends on no parameters, which actor and critic share; ``encode`` takes
    observations or this result.

    Attributes:
        num_features: of a row.
        compiled: whether rows are encoded by compiled loops on a CPU, which then compute the heads too.
    """

    compiled: ClassVar[bool] = False
    num_features: int

    @abstractmethod
    def parameters(self) -> dict[str, Parameter]: ...

    @abstractmethod
    def encode(
        self, p: Named, x: Any, tables: tuple[Tensor, ...] = ()
    ) -> tuple[Tensor, Tensor | None]:
        """Features, and where each row's stand.

        Args:
            tables: from ``tables``, if ``p`` has not changed since.

        Returns:
            Features ``[S or K, T, b, F]`` and None; or ``[K, 1, r, F]`` of rows without repetitions and the number
            ``[T, b]`` of each observation's row.
        """

    def tables(self, p: Named) -> tuple[Tensor, ...]:
        """What can be computed ahead for acting with parameters that stay the same; nothing by default."""
        return ()

    def look(self, x: Tensor) -> Any:
        """Precompute the part of the encoding that networks of one encoder share."""
        return x

    def take(self, x: Any, index: Tensor) -> Any:
        """The rows at ``index`` ``[S, T, m]`` of the result of ``look`` for ``[S, T, n, in]``."""
        return take_rows(index, x)[0]

    def split(self, x: Any, size: int) -> Sequence[Any]:
        """Split the result of ``look`` for ``[S, T, n, in]`` into parts of at most ``size`` rows a task."""
        parts: Sequence[Tensor] = x.split(size, 2)
        return parts

    def rows(self, x: Any) -> Tensor:
        """The rows ``[S, T, b, in]`` that ``look`` was given."""
        rows: Tensor = x
        return rows


@dataclass(frozen=True)
class Identity(Encoder):
    """Numbers as they are."""

    num_features: int

    def parameters(self) -> dict[str, Parameter]:
        return {}

    def encode(
        self, p: Named, x: Tensor, tables: tuple[Tensor, ...] = ()
    ) -> tuple[Tensor, Tensor | None]:
        return x, None


def take_rows(index: Tensor, *fields: Tensor) -> list[Tensor]:
    """Each of ``fields`` ``[S, T, n, ...]`` at ``index`` ``[S, T, m]``."""
    seeds, tasks, count = fields[0].shape[:3]
    group = torch.arange(seeds * tasks, device=index.device)
    start = group.view(seeds, tasks, 1) * count
    place = (index + start).flatten()
    taken = []
    for field in fields:
        rows = field.flatten(0, 2).index_select(0, place)
        taken.append(rows.view(*index.shape, *field.shape[3:]))
    return taken
