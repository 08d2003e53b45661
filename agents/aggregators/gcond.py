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
from mtrl.agents.aggregators.linalg import diagonal, identity, may_stop, or_one, ratio


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
        check(
            self.window >= 1,
            "window",
            self.window,
            "at least 1",
        )
        check(
            self.rounds >= 1,
            "rounds",
            self.rounds,
            "at least 1",
        )
        check(
            -1 < self.critical < self.main < self.weak <= 0,
            "critical",
            self.critical,
            "in (-1, main), main < weak",
        )
        check(
            0 <= self.stability <= 1,
            "stability",
            self.stability,
            "in [0, 1]",
        )
        check(
            0 <= self.momentum < 1,
            "momentum",
            self.momentum,
            "in [0, 1)",
        )

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        rows = given(inputs.jacobian)
        count = torch.ones_like(state["count"])
        total = rows
        mean = rows
        if self.window > 1:
            fresh = (state["count"] >= self.window) | (state["count"] == 0)
            count = torch.where(fresh, 1.0, state["count"] + 1)
            before = state["total"].to(rows.dtype)
            total = torch.where(fresh[..., None, None], 0.0, before) + rows
            mean = total / count[..., None, None].to(rows.dtype)
        momentum = torch.lerp(state["momentum"].to(rows.dtype), mean, 1 - self.momentum)
        product = gramian(mean).double()
        norms = diagonal(product).clamp(min=0).sqrt()
        size = norms * torch.linalg.vector_norm(momentum, dim=-1).double()
        inner = (mean.unsqueeze(-2) @ momentum.unsqueeze(-1)).flatten(-3).double()
        agreement = inner / or_one(size)
        strongest = norms.amax(-1, keepdim=True)
        strength = norms / or_one(strongest)
        score = self.stability * agreement + (1 - self.stability) * strength
        coefficients, unsettled = self._settle(product, score)
        dtype = state["total"].dtype
        new = {
            "total": total.to(dtype),
            "momentum": momentum.to(dtype),
            "count": count,
        }
        weights = coefficients.mean(-2).to(mean.dtype)
        direction = combine(mean, weights).double()
        converged = torch.ones_like(unsettled, dtype=torch.bool)
        return Solution(direction, unsettled, converged, new)

    def _settle(self, product: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients ``[..., m, m]`` of the settled gradients, and the depth of the worst conflict left."""
        m = product.shape[-1]
        eye = identity(product)
        rows = eye.expand_as(product)
        open_pairs = torch.ones_like(product, dtype=torch.bool).triu(1)
        rounds = self.rounds * m if m > 1 else 0
        for _ in range(rounds):
            # All numbers stay on the device: pairs are picked by gathering, not by indexing from the host.
            cosine = self._cosines(rows, product)
            cosine = cosine.masked_fill(~open_pairs, torch.inf).flatten(-2)
            lowest, pair = cosine.min(-1, keepdim=True)
            if may_stop(lowest >= self.weak):
                break
            i = pair // m
            j = pair % m
            wins = score.gather(-1, i) >= score.gather(-1, j)
            winner = torch.where(wins, i, j)
            loser = torch.where(wins, j, i)
            angle = torch.where(lowest < self.weak, self._angle(lowest), 0.0)
            a = self._row(rows, winner)
            b = self._row(rows, loser)
            pa = a @ product
            pb = b @ product
            dot = (pa * b).sum(-1)
            aa = (pa * a).sum(-1)
            bb = (pb * b).sum(-1)
            winner_loss = angle.sin() * dot / or_one(bb)
            loser_loss = angle.clamp(max=math.pi / 2).sin() * dot / or_one(aa)
            of_winner = self._place(winner, -winner_loss.unsqueeze(-1) * b, m)
            of_loser = self._place(loser, -loser_loss.unsqueeze(-1) * a, m)
            rows = rows + (of_winner + of_loser)
            settled = torch.arange(m * m, device=pair.device) == pair
            open_pairs = open_pairs & ~settled.unflatten(-1, (m, m))
        left = self._cosines(rows, product) * (1 - eye)
        worst = (-left).clamp(min=0).amax((-1, -2))
        return rows, worst

    def _angle(self, c: Tensor) -> Tensor:
        """Angle of the zone that cosines ``c`` lie in."""
        depth = ((c - self.main) / (self.critical - self.main)).clamp(0, 1)
        height = ((c - self.main) / (self.weak - self.main)).clamp(0, 1)
        deep = math.pi / 2 * (1 + depth**2)
        shallow = math.pi / 2 * (1 - height)
        return torch.where(c < self.main, deep, shallow)

    @staticmethod
    def _cosines(rows: Tensor, product: Tensor) -> Tensor:
        inner = rows @ product @ rows.mT
        norms = diagonal(inner).clamp(min=0).sqrt()
        sizes = norms.unsqueeze(-1) * norms.unsqueeze(-2)
        return ratio(inner, sizes)

    @staticmethod
    def _row(rows: Tensor, index: Tensor) -> Tensor:
        columns = index.unsqueeze(-1).expand(*index.shape, rows.shape[-1])
        return rows.gather(-2, columns)

    @staticmethod
    def _place(index: Tensor, row: Tensor, m: int) -> Tensor:
        """``row`` at ``index`` of a matrix with m rows, zero elsewhere."""
        here = torch.arange(m, device=index.device) == index
        return here.unsqueeze(-1) * row
