"""GCond: gradients averaged over micro-steps, then the worst conflicts settled one pair at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

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
from mtrl.agents.aggregators.gramians import combine, gramian
from mtrl.agents.aggregators.linalg import diagonal, may_stop


@dataclass(frozen=True)
class GCond(Aggregator):
    """Repeatedly takes the pair of smallest cosine c < 0, each pair once, and turns it out of conflict.

    With the angle α of the zone (π below ``critical``; rising from π/2 to π down to it from ``main``, quadratically;
    from 0 to π/2 between ``weak`` and ``main``, linearly) the winner loses ``sin α`` and the loser ``sin min(α, π/2)``
    of its component along the other. The winner has the larger ``0.8 · stability + 0.2 · strength``: cosine with its
    own momentum, and norm relative to the largest. The update is the mean of the settled gradients.

    Every micro-step gives an update, from the gradients averaged since the window began.
    """

    window: int = 1
    """K, micro-steps after which the average starts anew."""
    rounds: int = 1
    """Pairs settled at most, in units of m."""
    critical: float = -0.8
    """The borders of the zones."""
    main: float = -0.5
    """The borders of the zones."""
    weak: float = 0.0
    """The borders of the zones."""
    stability: float = 0.8
    """Weight of stability against strength."""
    momentum: float = 0.9
    """Decay of each task's momentum."""

    layout: ClassVar = {"total": ("mP", 0.0), "momentum": ("mP", 0.0), "count": ("", 0.0)}
    info = AggregatorInfo(
        "gcond", frozenset({"jacobian"}), "Limarenko et al. 2025 (arXiv 2509.07252)", False, True
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(self.window >= 1, "window", self.window, "at least 1")
        check(self.rounds >= 1, "rounds", self.rounds, "at least 1")
        check(
            -1 < self.critical < self.main < self.weak <= 0,
            "critical",
            self.critical,
            "in (-1, main), main < weak",
        )
        check(0 <= self.stability <= 1, "stability", self.stability, "in [0, 1]")
        check(0 <= self.momentum < 1, "momentum", self.momentum, "in [0, 1)")

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        rows = given(inputs.jacobian)
        count, total, mean = torch.ones_like(state["count"]), rows, rows
        if self.window > 1:
            fresh = (state["count"] >= self.window) | (state["count"] == 0)
            count = torch.where(fresh, 1.0, state["count"] + 1)
            total = torch.where(fresh[..., None, None], 0.0, state["total"].to(rows.dtype)) + rows
            mean = total / count[..., None, None].to(rows.dtype)
        momentum = torch.lerp(state["momentum"].to(rows.dtype), mean, 1 - self.momentum)
        product = gramian(mean).double()
        norms = diagonal(product).clamp(min=0).sqrt()
        size = norms * torch.linalg.vector_norm(momentum, dim=-1).double()
        inner = (mean.unsqueeze(-2) @ momentum.unsqueeze(-1)).flatten(-3).double()
        agreement = inner / torch.where(size > 0, size, 1.0)
        strongest = norms.amax(-1, keepdim=True)
        strength = norms / torch.where(strongest > 0, strongest, 1.0)
        score = self.stability * agreement + (1 - self.stability) * strength
        coefficients, unsettled = self._settle(product, score)
        dtype = state["total"].dtype
        new = {"total": total.to(dtype), "momentum": momentum.to(dtype), "count": count}
        direction = combine(mean, coefficients.mean(-2).to(mean.dtype)).double()
        return Solution(direction, unsettled, torch.ones_like(unsettled, dtype=torch.bool), new)

    def _settle(self, product: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients ``[..., m, m]`` of the settled gradients, and the depth of the worst conflict left."""
        m = product.shape[-1]
        eye = torch.eye(m, dtype=product.dtype, device=product.device)
        rows = eye.expand_as(product)
        open_pairs = torch.ones_like(product, dtype=torch.bool).triu(1)
        for _ in range(self.rounds * m if m > 1 else 0):
            cosine = self._cosines(rows, product).masked_fill(~open_pairs, torch.inf).flatten(-2)
            lowest, pair = cosine.min(-1, keepdim=True)
            if may_stop(lowest >= self.weak):
                break
            i, j = pair // m, pair % m
            wins = score.gather(-1, i) >= score.gather(-1, j)
            winner, loser = torch.where(wins, i, j), torch.where(wins, j, i)
            angle = torch.where(lowest < self.weak, self._angle(lowest), 0.0)
            a, b = self._row(rows, winner), self._row(rows, loser)
            pa, pb = a @ product, b @ product
            dot, aa, bb = (pa * b).sum(-1), (pa * a).sum(-1), (pb * b).sum(-1)
            out = angle.sin() * dot / torch.where(bb > 0, bb, 1.0)
            back = angle.clamp(max=math.pi / 2).sin() * dot / torch.where(aa > 0, aa, 1.0)
            change = self._place(winner, -out.unsqueeze(-1) * b, m) + self._place(
                loser, -back.unsqueeze(-1) * a, m
            )
            rows = rows + change
            settled = torch.arange(m * m, device=pair.device) == pair
            open_pairs = open_pairs & ~settled.unflatten(-1, (m, m))
        left = self._cosines(rows, product) * (1 - eye)
        return rows, (-left).clamp(min=0).amax((-1, -2))

    def _angle(self, c: Tensor) -> Tensor:
        deep = math.pi / 2 * (1 + ((c - self.main) / (self.critical - self.main)).clamp(0, 1) ** 2)
        shallow = math.pi / 2 * (1 - ((c - self.main) / (self.weak - self.main)).clamp(0, 1))
        return torch.where(c < self.main, deep, shallow)

    @staticmethod
    def _cosines(rows: Tensor, product: Tensor) -> Tensor:
        inner = rows @ product @ rows.mT
        norms = diagonal(inner).clamp(min=0).sqrt()
        sizes = norms.unsqueeze(-1) * norms.unsqueeze(-2)
        return torch.where(sizes > 0, inner / torch.where(sizes > 0, sizes, 1.0), 0.0)

    @staticmethod
    def _row(rows: Tensor, index: Tensor) -> Tensor:
        return rows.gather(-2, index.unsqueeze(-1).expand(*index.shape, rows.shape[-1]))

    @staticmethod
    def _place(index: Tensor, row: Tensor, m: int) -> Tensor:
        return (torch.arange(m, device=index.device) == index).unsqueeze(-1) * row
