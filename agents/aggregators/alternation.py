"""Alternation of plain averaging with a gradient method, so that most updates form no task's gradient."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from mtrl.agents.agent import AgentError
from mtrl.agents.aggregators.around import Around
from mtrl.agents.aggregators.base import Aggregator, AggregatorInfo, check, check_types
from mtrl.agents.aggregators.fixed import Mean
from mtrl.agents.aggregators.wrappers import skips_solves


@dataclass(frozen=True)
class Hybrid(Around):
    """Of ``free + 1`` epochs of ``period`` updates the first ``free`` are plain averaging, the last is ``base``.

    The caller asks ``at`` which it is before an update, and forms no task's gradient where it is averaging. The base's
    state then stays as it is. With ``free_end`` the number of free epochs goes from ``free`` to it over training.

    Attributes:
        base: the method that suppresses conflicts.
        free: epochs of plain averaging before each of the method, at the start of training.
        free_end: the same at the end; None for ``free``.
        period: updates in an epoch.
    """

    free: int = 1
    free_end: int | None = None
    period: int = 1

    label: ClassVar[str] = "hybrid"

    @property
    def info(self) -> AggregatorInfo:
        most = max(self.free, self.free_end or 0)
        info = super().info
        return dataclasses.replace(
            info,
            warmup=(most + 1) * info.warmup,
            alternates=True,
            uses_share=self.free_end not in (None, self.free),
        )

    def __post_init__(self) -> None:
        check_types(self)
        check(self.free >= 0, "free", self.free, "at least 0")
        end = self.free if self.free_end is None else self.free_end
        check(end >= 0, "free_end", end, "at least 0")
        check(max(self.free, end) >= 1, "free", self.free, "at least 1 where free_end is not")
        check(self.period >= 1, "free_period", self.period, "at least 1")
        if isinstance(self.base, Mean):
            raise AgentError("free: 'mean' would alternate with itself; name another method")
        if skips_solves(self.base):
            raise AgentError(
                f"free: {self.base.info.name!r} holds its weights, which are not of the updates in between; use every=1"
            )

    def at(self, step: int | None, share: float) -> Aggregator:
        """``Mean`` in free updates, else the base."""
        assert step is not None, "updates that alternate are counted on the host"
        end = self.free if self.free_end is None else self.free_end
        free = round(self.free + (end - self.free) * share)
        epoch = step // self.period
        return Mean() if epoch % (free + 1) < free else self.base
