"""CAGrad: the direction within a ball around the mean gradient that serves the worst-off task best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
    exact,
    given,
    preferences_of,
)
from mtrl.agents.aggregators.interior import norm_interior
from mtrl.agents.aggregators.linalg import (
    add_diagonal,
    correlation,
    identity,
    matvec,
    may_stop,
    or_one,
    ridge_floor,
    some_left,
    spd_solve,
)

Rescale = Literal["none", "1/(1+c)", "1/(1+c²)"]
_ROUNDS = 4  # of splitting and pivoting; one is enough for all but nearly flat hulls
_GAP = 1e-7  # the duality gap at which a CPU goes no further
_CERTIFIED = 1e-6  # the largest duality gap of a solution called converged


@dataclass(frozen=True)
class CAGrad(Aggregator):
    """``d = g0 + c (‖g0‖/‖g_w‖) g_w`` with ``w = argmin_simplex g_w·g0 + c ‖g0‖ ‖g_w‖``.

    g0 is the mean of the gradients, weighted by preferences where they are given. Tasks with a zero gradient take no
    part in the minimum. Where the hull of the gradients contains zero and that is
    the minimum (a Pareto-stationary point) the update is zero. For ``c = 0`` the ball is the point g0: the update is
    the mean gradient, and nothing is solved.

    The residual is the duality gap, for each task in units of ``‖g0‖ ‖g_i‖``, so that it depends neither on the scale
    of the Gramian nor on how the norms differ. A solution is converged if no task's gain falls short of the maximum
    of the worst gain by more than 1e-6 of these units.
    """

    c: float = 0.5
    """Radius of the ball, in units of ``‖g0‖``; 0 gives the mean."""
    rescale: Rescale = "none"
    """Factor on the result; the public implementations differ in it."""

    info = AggregatorInfo(
        "cagrad",
        frozenset({"gramian"}),
        "Liu et al. 2021 (arXiv 2110.14048), algorithm 1",
        shares="preferences",
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(self.c >= 0, "c", self.c, "at least 0")

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        gramian = given(inputs.gramian)
        # Preferences are the coefficients of g0.
        return self._from(gramian, preferences_of(inputs, gramian[..., 0]), eps)

    def _from(self, gramian: Tensor, mean: Tensor, eps: float) -> Solution:
        """Weights from the Gramian of the rows and the coefficients ``[..., m]`` of g0 in them."""
        if self.c == 0:
            return exact(mean)
        w, norm, gap = _worst_case(gramian, mean, self.c, eps)
        radius = self.c * _norm(gramian, mean)
        flat = norm <= 0
        safe_norm = torch.where(flat, 1.0, norm)
        pull = torch.where(flat, 0.0, radius / safe_norm)
        # Where g_w vanishes within a ball of positive radius, zero is the minimum and the update.
        stationary = flat & (radius > 0)
        centre = torch.where(stationary, 0.0, 1.0).unsqueeze(-1) * mean
        weights = (centre + pull.unsqueeze(-1) * w) * self._factor()
        return Solution(weights, gap, gap < _CERTIFIED, {})

    def _factor(self) -> float:
        factors = {
            "none": 1.0,
            "1/(1+c)": 1 / (1 + self.c),
            "1/(1+c²)": 1 / (1 + self.c**2),
        }
        return factors[self.rescale]


@dataclass(frozen=True)
class CAGradFast(CAGrad):
    """CAGrad on ``n − 1`` tasks drawn without replacement and the mean of all the others as one more row.

    g0 stays the mean of all tasks.
    """

    n: int = 4
    """Rows after the reduction (4 for 10 tasks, 8 for 50); n ≥ m is plain CAGrad."""

    info = AggregatorInfo(
        "cagrad-fast",
        frozenset({"gramian", "noise"}),
        "Liu et al. 2021, task sampling",
        shares="groups",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.n >= 2, "n", self.n, "at least 2")

    def noise_shape(self, num_tasks: int, num_params: int | None = None) -> tuple[int, ...]:
        return (num_tasks,)

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        gramian = given(inputs.gramian)
        m = gramian.shape[-1]
        drawn = min(self.n - 1, m - 1)
        order = given(inputs.noise).argsort(-1)
        shuffled = identity(gramian)[order]
        alone = shuffled[..., :drawn, :]
        rest = shuffled[..., drawn:, :].mean(-2, keepdim=True)
        rows = torch.cat([alone, rest], -2)
        share = rows.sum(-1) / m
        is_alone = torch.arange(drawn + 1, device=share.device) < drawn
        # The last row is a mean of m − drawn tasks and stands for all of them in g0.
        share = torch.where(is_alone, share, (m - drawn) / m)
        solution = self._from(rows @ gramian @ rows.mT, share, eps)
        weights = matvec(rows.mT, solution.value)
        return solution._replace(value=weights)


def _norm(gramian: Tensor, coefficients: Tensor) -> Tensor:
    squared = (coefficients * matvec(gramian, coefficients)).sum(-1)
    return squared.clamp(min=0).sqrt()


def _worst_case(
    gramian: Tensor, mean: Tensor, c: float, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """``w``, ``‖g_w‖`` (0 if below what the Gramian resolves) and the duality gap in units of ``‖g0‖ · ‖g_i‖``.

    Worked in unit gradients, ``x_i = w_i ‖g_i‖ / min ‖g‖``: minimise ``b·x + κ √(xᵀCx)`` with ``a·x = 1, x ≥ 0``.
    Splitting guesses the active set; on it the optimality conditions are a linear system and one quadratic equation,
    with the worst-off task's gain μ as the unknown. What that leaves unsolved goes to the interior point method on a
    CPU; elsewhere the caller sees the gap.
    """
    cosine, norms, active = correlation(gramian)
    ridge = ridge_floor(gramian.shape[-1], eps)
    cosine = add_diagonal(cosine, ridge)
    inverse = torch.where(active, 1 / norms, 0.0)
    longest = inverse.amax(-1, keepdim=True)
    longest = or_one(longest)
    a = inverse / longest
    length = _norm(gramian, mean)
    unit = or_one(length).unsqueeze(-1)
    b = torch.where(active, matvec(gramian, mean) / norms / unit, 0.0)
    start = None
    for _ in range(_ROUNDS):
        start, x, dual = _guess(cosine, a, b, c, start)
        x, squared, gap = _certify(cosine, a, b, c, active, x, dual, x > 0)
        if may_stop(gap < _GAP):
            break
    # Negated, so that a gap that is NaN counts as unsolved.
    hard = ~(gap < _GAP)
    if some_left(hard):
        found_x, found_squared, found_gap = _last_resort(
            cosine[hard],
            a[hard],
            b[hard],
            c,
            active[hard],
            ridge,
        )
        better = found_gap < gap[hard]
        x[hard] = torch.where(better.unsqueeze(-1), found_x, x[hard])
        squared[hard] = torch.where(better, found_squared, squared[hard])
        gap[hard] = torch.where(better, found_gap, gap[hard])
    resolved = 4 * ridge * (x * x).sum(-1)
    norm = squared.sqrt() / longest.squeeze(-1)
    return x * a, torch.where(squared <= resolved, 0.0, norm), gap


def _last_resort(
    cosine: Tensor, a: Tensor, b: Tensor, c: float, active: Tensor, ridge: float
) -> tuple[Tensor, Tensor, Tensor]:
    """As ``_certify``, from the interior point method."""
    # Rounding can make a Gramian of low rank indefinite by a little more than the ridge, here m = 50 in float32.
    stiff = add_diagonal(cosine, 3 * ridge)
    x, slack, dual = norm_interior(stiff, a, b, c)
    x, squared, gap = _certify(stiff, a, b, c, active, x, dual, x > slack)
    added = 3 * ridge * (x * x).sum(-1)
    return x, squared - added, gap


def _certify(
    cosine: Tensor,
    a: Tensor,
    b: Tensor,
    c: float,
    active: Tensor,
    x: Tensor,
    dual: Tensor,
    free: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The better of a guess and what pivoting from ``free`` makes of it, its ``xᵀCx`` and its duality gap.

    A dual point is any ``u = Cy`` with ``yᵀCy ≤ c²``; no minimum is below ``min_i (b_i + u_i) / a_i``.
    """
    pivoted = _pivot(cosine, a, b, c, free, active)
    candidates = torch.stack([x, pivoted, x], -2)
    candidates = torch.where(active.unsqueeze(-2), candidates, 0.0)
    total = (candidates * a.unsqueeze(-2)).sum(-1, keepdim=True)
    candidates = candidates / or_one(total)
    slope = candidates @ cosine
    squared = (candidates * slope).sum(-1)
    # Neither x = 0 nor a norm lost to rounding certifies anything: the first has no weights, the second no gradient.
    no_gradient = squared[..., :2] <= 0
    no_weights = total[..., 2:, 0] <= 0
    refused = torch.cat([no_gradient, no_weights], -1)
    refused = refused & active.any(-1, keepdim=True)
    squared = squared.clamp(min=1e-300)
    norm = squared.sqrt()
    of_norm = c * slope / norm.unsqueeze(-1)
    # Last candidate: the solver's own dual, which stays a certificate where g_w = 0 and the norm has no gradient.
    duals = torch.cat([of_norm[..., :2, :], dual.unsqueeze(-2)], -2)
    gains = b.unsqueeze(-2) + duals
    value = (candidates * b.unsqueeze(-2)).sum(-1) + c * norm
    gaps = value.unsqueeze(-1) * a.unsqueeze(-2) - gains
    gap = gaps.masked_fill(~active.unsqueeze(-2), -torch.inf).amax(-1)
    gap = gap.clamp(min=0).nan_to_num(nan=torch.inf)
    gap, best = gap.masked_fill(refused, torch.inf).min(-1)
    index = best[..., None, None].expand_as(candidates[..., :1, :])
    x = candidates.gather(-2, index).squeeze(-2)
    squared = squared.gather(-1, best.unsqueeze(-1)).squeeze(-1)
    return x, squared, gap


def _guess(
    cosine: Tensor,
    a: Tensor,
    b: Tensor,
    c: float,
    start: tuple[Tensor, ...] | None,
    iterations: int = 16,
) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """ADMM with ``x ≥ 0`` and the norm split off; the norm's part is held as coefficients of the unit gradients.

    Returns where to go on from, ``x``, and the dual value of the norm's part. The penalty follows ``c``, since the norm
    shrinks by ``c / rho`` in each iteration: a larger one crosses a small norm in tiny steps.
    """
    rho = min(0.3, max(c, 1e-3))
    eye = identity(a).expand_as(cosine)
    inverse = spd_solve(cosine + eye, eye)
    row = a.unsqueeze(-2)
    column = row.mT
    ka = row @ inverse
    along = (row * ka).sum(-1, keepdim=True)
    ka = ka / along.clamp(min=1e-300)
    shift = b.unsqueeze(-2) @ inverse / rho
    zero = torch.zeros_like(row)
    z, u, s, v = start or (zero, zero, zero, zero)
    for _ in range(iterations):
        target = s - v
        x = (z - u - target) @ inverse + target - shift
        x = x - ka * (x @ column - 1)
        u = u + x
        z = u.clamp(min=0)
        u = u - z
        v = v + x
        # The proximal step of the norm: v shrinks towards zero by c / rho of its length.
        size = (v @ cosine @ v.mT).clamp(min=1e-300).sqrt()
        left = (1 - c / rho / size).clamp(min=0)
        s = v * left
        v = v - s
    dual = rho * (v @ cosine)
    return (z, u, s, v), z.squeeze(-2), dual.squeeze(-2)


def _pivot(
    cosine: Tensor,
    a: Tensor,
    b: Tensor,
    c: float,
    free: Tensor,
    active: Tensor,
    iterations: int = 8,
) -> Tensor:
    """Solve the optimality conditions on the ``free`` set, flipping the indices that break them."""
    eye = identity(a)
    rhs = torch.stack([a, b], -1)
    least = torch.where(active, b, torch.inf).amin(-1, keepdim=True)
    lowest = (b == least) & active
    x = torch.zeros_like(a)
    for _ in range(iterations):
        # An empty set has no weights; the task of smallest product with g0 starts a new one.
        free = torch.where(free.any(-1, keepdim=True), free, lowest)
        both = free.unsqueeze(-1) & free.unsqueeze(-2)
        matrix = torch.where(both, cosine, eye)
        on_free = torch.where(free.unsqueeze(-1), rhs, 0.0)
        p, q = spd_solve(matrix, on_free).unbind(-1)
        ap = (a * p).sum(-1)
        bp = (b * p).sum(-1)
        bq = (b * q).sum(-1)
        discriminant = bp * bp - ap * (bq - c * c)
        gain = (bp + discriminant.clamp(min=0).sqrt()) / or_one(ap)
        x = gain.unsqueeze(-1) * p - q
        slope = matvec(cosine, x) + b - gain.unsqueeze(-1) * a
        wrong = (torch.where(free, x, slope) < -1e-12) & active
        if may_stop(~wrong):
            break
        free = free ^ wrong
    return x.clamp(min=0)
