"""Dynamic task prioritisation: tasks that are far from success count more, by a focal loss of their success rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from mtrl.agents.aggregators.base import (
    Aggregator,
    AggregatorInfo,
    Inputs,
    Solution,
    State,
    check,
    check_types,
    exact,
    given,
)


@dataclass(frozen=True)
class TaskPriorities(Aggregator):
    """``w_i ∝ −(1 − κ_i)^γ log κ_i``, ``Σ w = 1``, with ``κ ← (1 − α) κ + α success``.

    κ counts as at least 0.01 and at most 0.99, so that every task keeps a weight. It starts at 0, where all tasks are
    equal.
    """

    gamma: float = 1.0
    """γ; larger looks more at the tasks that fail most."""
    alpha: float = 0.1
    """α."""

    layout: ClassVar = {"kpi": ("m", 0.0)}
    info = AggregatorInfo(
        "dtp",
        frozenset({"success"}),
        "Guo et al. 2018 (Dynamic Task Prioritization, ECCV), equations 2 and 3",
        shares="losses",
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(self.gamma >= 0, "gamma", self.gamma, "at least 0")
        check(0 < self.alpha <= 1, "alpha", self.alpha, "in (0, 1]")

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        kpi = torch.lerp(state["kpi"], given(inputs.success).clamp(0, 1), self.alpha)
        seen = kpi.clamp(0.01, 0.99)
        priority = -((1 - seen) ** self.gamma) * seen.log()
        return exact(priority / priority.sum(-1, keepdim=True), {"kpi": kpi})
