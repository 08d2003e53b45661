"""MoCo, DB-MTL and Excess-MTL: methods that remember every task's gradient, ``[m, P]`` floats of state."""

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
from mtrl.agents.aggregators.gramians import combine, gramian
from mtrl.agents.aggregators.learned import SimplexProjection
from mtrl.agents.aggregators.linalg import diagonal, matvec, or_one, ratio


@dataclass(frozen=True)
class MoCo(Aggregator):
    """``y ← y + β (g − y)``, ``λ ← Π(λ − γ (YYᵀ + ρI) λ)``, update ``Yᵀλ``; YYᵀ in units of its mean diagonal."""

    beta: float = 0.5
    """Step of the tracked gradients."""
    gamma: float = 0.1
    """Step of the weights."""
    rho: float = 0.0
    """Regularisation, in the same units."""

    layout: ClassVar = {"rows": ("mP", 0.0), "offset": ("m", 0.0)}
    info = AggregatorInfo(
        "moco",
        frozenset({"jacobian"}),
        "Fernando et al. 2023 (arXiv 2210.12624), algorithm 1",
        direction_only=True,
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(0 < self.beta <= 1, "beta", self.beta, "in (0, 1]")
        check(self.gamma >= 0, "gamma", self.gamma, "at least 0")
        check(self.rho >= 0, "rho", self.rho, "at least 0")

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        rows = given(inputs.jacobian)
        tracked = torch.lerp(state["rows"].to(rows.dtype), rows, self.beta)
        products = gramian(tracked).double()
        unit = diagonal(products).mean(-1)[..., None, None]
        products = products / or_one(unit)
        uniform = 1 / rows.shape[-2]
        weights = state["offset"] + uniform
        slope = matvec(products, weights) + self.rho * weights
        project = SimplexProjection(weights)
        weights = project(weights - self.gamma * slope)
        new = {
            "rows": tracked.to(state["rows"].dtype),
            "offset": weights - uniform,
        }
        direction = combine(tracked, weights.to(tracked.dtype))
        return exact(direction.double(), new)


@dataclass(frozen=True)
class DBMTL(Aggregator):
    """Dual balancing: gradients of the log losses, averaged over time, brought to the largest norm and summed."""

    beta: float = 0.9
    """The average keeps ``β / t^σ`` of its past at update t."""
    sigma: float = 0.5
    """Σ."""
    log_losses: bool = True
    """Balance the losses by their logarithm; without it any sign of the losses is fine."""

    layout: ClassVar = {"rows": ("mP", 0.0), "count": ("", 0.0)}

    @property
    def info(self) -> AggregatorInfo:
        needs = {"jacobian", "losses"} if self.log_losses else {"jacobian"}
        source = "Lin et al. 2023 (arXiv 2308.12029), algorithm 1"
        return AggregatorInfo(
            "db-mtl",
            frozenset(needs),
            source,
            self.log_losses,
            True,
        )

    def __post_init__(self) -> None:
        check_types(self)
        check(0 <= self.beta <= 1, "beta", self.beta, "in [0, 1]")
        check(self.sigma >= 0, "sigma", self.sigma, "at least 0")

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        rows = given(inputs.jacobian)
        if self.log_losses:
            losses = given(inputs.losses).clamp(min=1e-8)
            rows = rows / losses.unsqueeze(-1).to(rows.dtype)
        count = state["count"] + 1
        # The first average has no past: its zeros must not shrink it.
        keep = torch.where(count > 1, self.beta / count**self.sigma, 0.0)
        keep = keep[..., None, None].to(rows.dtype)
        tracked = torch.lerp(rows, state["rows"].to(rows.dtype), keep)
        norms = torch.linalg.vector_norm(tracked, dim=-1, dtype=torch.float64)
        scale = ratio(norms.amax(-1, keepdim=True), norms)
        new = {"rows": tracked.to(state["rows"].dtype), "count": count}
        direction = combine(tracked, scale.to(tracked.dtype))
        return exact(direction.double(), new)


@dataclass(frozen=True)
class ExcessMTL(Aggregator):
    """Exponentiated weights driven by the excess risk ``g_iᵀ H_i⁻¹ g_i`` with a diagonal AdaGrad H."""

    lr: float = 1.0
    """Step size of the weights' exponent."""
    warmup: int = 0
    """Updates that only measure; the baseline of a task's risk is its mean over them, or the first one."""

    layout: ClassVar = {
        "root": ("mP", 0.0),
        "baseline": ("m", 0.0),
        "logits": ("m", 0.0),
        "count": ("", 0.0),
    }

    @property
    def info(self) -> AggregatorInfo:
        source = "He et al. 2024 (arXiv 2402.02009), eq. 6 to 9"
        return AggregatorInfo("excess-mtl", frozenset({"jacobian"}), source, warmup=self.warmup)

    def __post_init__(self) -> None:
        check_types(self)
        check(self.lr > 0, "lr", self.lr, "above 0")
        check(
            self.warmup >= 0,
            "warmup",
            self.warmup,
            "at least 0",
        )

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        rows = given(inputs.jacobian)
        count = state["count"].unsqueeze(-1)
        # Excess risk is Σ g²/√Σg²; the running sum is held as its root so that float32 does not overflow.
        root = torch.hypot(state["root"].to(rows.dtype), rows)
        excess = rows * (rows / or_one(root))
        risk = excess.sum(-1, dtype=torch.float64)
        warm = count < self.warmup
        share = risk / max(self.warmup, 1)
        baseline = torch.where(warm, state["baseline"] + share, state["baseline"])
        if self.warmup == 0:
            baseline = torch.where(count == 0, risk, baseline)
        relative = risk / (baseline + 1e-7)
        if self.warmup == 0:
            relative = torch.where(count == 0, risk, relative)
        logits = state["logits"] + torch.where(warm, 0.0, self.lr * relative)
        logits = torch.where(torch.isfinite(logits), logits, torch.finfo(logits.dtype).max / 2)
        logits = logits - logits.amax(-1, keepdim=True)
        new = {"root": root.to(state["root"].dtype), "baseline": baseline, "logits": logits}
        return exact(logits.softmax(-1), new | {"count": state["count"] + 1})
