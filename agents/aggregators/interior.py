"""Interior point methods, for the problems on which splitting and pivoting do not find the active set.

Both are Mehrotra's predictor and corrector: each step aims at complementarity σμ, with σ from how far a step aimed at
zero would get. The number of steps hardly depends on conditioning or degeneracy: 14 were enough for the quadratic
program and 22 for the cone program over thousands of problems of rank 1 to m with norms over six orders of magnitude.
A step costs far more than one of pivoting, so they come last, and only on a CPU, which can see that they are needed.

Shapes: m unknowns, k linear terms that share a matrix, ``...`` independent problems.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mtrl.agents.aggregators.linalg import add_diagonal, matvec, may_stop

_INSIDE = 0.99  # share of the way to the boundary that a step may go


def nonneg_interior(matrix: Tensor, linear: Tensor, steps: int = 25) -> tuple[Tensor, Tensor]:
    """Minimise ``½ xᵀAx + qᵀx`` over ``x ≥ 0``.

    Args:
        matrix: A ``[..., m, m]``, positive definite.
        linear: q ``[..., k, m]``, of order 1.

    Returns:
        x ``[..., k, m]`` and its slope ``Ax + q`` as the iteration holds it, both positive.
    """
    shared = matrix.unsqueeze(-3)
    x = torch.ones_like(linear)
    slope = torch.ones_like(linear)
    for _ in range(steps):
        gap = (x * slope).mean(-1, keepdim=True)
        factor, _ = torch.linalg.cholesky_ex(add_diagonal(shared, slope / x))
        rest = x @ matrix + linear
        ahead = torch.cholesky_solve(-rest.unsqueeze(-1), factor).squeeze(-1)
        ahead_slope = -slope - slope / x * ahead
        growth = _orthant_growth(x, slope, ahead, ahead_slope)
        share = 1 / growth.clamp(min=1)
        after_x = x + share * ahead
        after_slope = slope + share * ahead_slope
        after = (after_x * after_slope).mean(-1, keepdim=True)
        target = (gap * (after / gap) ** 3 - ahead * ahead_slope) / x
        rhs = (target - rest).unsqueeze(-1)
        step = torch.cholesky_solve(rhs, factor).squeeze(-1)
        step_slope = target - slope - slope / x * step
        growth = _orthant_growth(x, slope, step, step_slope)
        share = _INSIDE / growth.clamp(min=_INSIDE)
        # Problems that are solved, or whose step is not finite, stand still while others go on.
        moving = torch.isfinite(share) & (gap > 1e-16)
        if may_stop(~moving):
            break
        x = torch.where(moving, x + share * step, x)
        slope = torch.where(moving, slope + share * step_slope, slope)
    return x, slope


def _orthant_growth(
    x: Tensor,
    slope: Tensor,
    step: Tensor,
    step_slope: Tensor,
) -> Tensor:
    """One over the length at which the step makes an entry of ``x`` or ``slope`` zero, ``[..., 1]``."""
    ratios = torch.maximum(-step / x, -step_slope / slope)
    return ratios.amax(-1, keepdim=True)


class _Point(NamedTuple):
    """Iterate of ``norm_interior``, or a step of it.

    ``x`` and ``slack`` are ``[..., m]``, ``value`` is ``[..., 1]``. ``primal`` (τ, Lᵀx) and ``dual`` (c, z) are vectors
    ``[..., 1 + m]`` of the cone ``{(τ, v): ‖v‖ ≤ τ}``.
    """

    x: Tensor
    slack: Tensor
    value: Tensor
    primal: Tensor
    dual: Tensor


class _System(NamedTuple):
    """Newton's equations at one point, reduced to one matrix of size m that is factored once for two solves."""

    point: _Point
    root: Tensor  # L, C = LLᵀ
    a: Tensor
    infeasible: Tensor  # b − t a − Lz − s
    scaling: Tensor  # w of Nesterov and Todd, [..., 1 + m]
    size: Tensor  # η of Nesterov and Todd
    scaled: Tensor  # λ = W · dual = W⁻¹ · primal
    factor: Tensor  # of K = C + η² diag(s / x)
    bend: Tensor  # g = L w₁, the rank-one part
    solved_bend: Tensor  # K⁻¹g
    solved_a: Tensor  # η² (K − 2 ggᵀ / curvature)⁻¹ a
    curvature: Tensor  # 2 w₀² − 1


def norm_interior(
    matrix: Tensor, a: Tensor, b: Tensor, c: float, steps: int = 30
) -> tuple[Tensor, Tensor, Tensor]:
    """Minimise ``b·x + c √(xᵀCx)`` over ``x ≥ 0``, ``a·x = 1``: the cone program ``b·x + c τ``, ``‖Lᵀx‖ ≤ τ``.

    Its dual is ``max t`` with ``s = b − t a − Lz ≥ 0``, ``‖z‖ ≤ c``, so that a bound on the minimum comes with the
    solution, also where ``Lᵀx`` vanishes and the norm has no gradient (Andersen, Roos & Terlaky 2003, with the scaling
    of Nesterov & Todd).

    Args:
        matrix: C ``[..., m, m]``, positive definite.
        a, b: ``[..., m]``, a ≥ 0.
        c: above 0.

    Returns:
        x ``[..., m]``, the slack s ``[..., m]`` that complements it, and ``−Lz`` ``[..., m]``.
    """
    root, _ = torch.linalg.cholesky_ex(matrix)
    point = _start(root, a, b, c)
    origin = torch.zeros_like(point.dual)
    origin[..., 0] = 1
    for _ in range(steps):
        inner = _dot(point.x, point.slack) + _dot(point.primal, point.dual)
        gap = inner / (a.shape[-1] + 1)
        system = _system(point, root, matrix, a, b)
        complement = point.x * point.slack
        ahead = _direction(system, -complement, -system.scaled)
        share = 1 / _growth(system, ahead).clamp(min=1)
        centre = gap * (1 - share) ** 3
        bent = _product(_unscale(system, ahead.primal), _scale(system, ahead.dual))
        target = _quotient(system.scaled, centre * origin - bent)
        wanted = centre - complement - ahead.x * ahead.slack
        step = _direction(system, wanted, target - system.scaled)
        share = _INSIDE / _growth(system, step).clamp(min=_INSIDE)
        moving = torch.isfinite(share) & (gap > 1e-10)
        if may_stop(~moving):
            break
        fields = [
            torch.where(moving, old + share * new, old)
            for old, new in zip(point, step, strict=True)
        ]
        point = _Point(*fields)
    return point.x, point.slack, -matvec(root, point.dual[..., 1:])


def _start(
    root: Tensor,
    a: Tensor,
    b: Tensor,
    c: float,
) -> _Point:
    """A point feasible for z = 0 and near the central path of c = 0, where ``x ∝ 1/s``.

    From ``x ∝ 1``, entries of a over six orders of magnitude take twice as many steps.
    """
    value = torch.where(a > 0, b / a, torch.inf).amin(-1, keepdim=True)
    slack = (b - value * a).clamp(min=c)
    x = 1 / slack
    x = x / _dot(a, x)
    vector = (x.unsqueeze(-2) @ root).squeeze(-2)
    length = vector.norm(dim=-1, keepdim=True)
    primal = torch.cat([2 * length, vector], -1)
    dual = torch.zeros_like(primal)
    dual[..., 0] = c
    return _Point(x, slack, value, primal, dual)


def _system(
    point: _Point,
    root: Tensor,
    matrix: Tensor,
    a: Tensor,
    b: Tensor,
) -> _System:
    primal_size = _determinant(point.primal).sqrt()
    dual_size = _determinant(point.dual).sqrt()
    scaling = point.primal / primal_size + _mirror(point.dual) / dual_size
    scaling = scaling / _determinant(scaling).sqrt()
    size = (primal_size / dual_size).sqrt()
    tail = scaling[..., 1:]
    bend = matvec(root, tail)
    reduced = add_diagonal(matrix, size**2 * point.slack / point.x)
    factor, _ = torch.linalg.cholesky_ex(reduced)
    solved = torch.cholesky_solve(torch.stack([bend, a], -1), factor)
    lifted = matvec(root, point.dual[..., 1:])
    infeasible = b - point.value * a - lifted - point.slack
    system = _System(
        point=point,
        root=root,
        a=a,
        infeasible=infeasible,
        scaling=scaling,
        size=size,
        scaled=size * _hyperbolic(scaling, point.dual),
        factor=factor,
        bend=bend,
        solved_bend=solved[..., 0],
        solved_a=solved[..., 1],
        curvature=1 + 2 * _dot(tail, tail),
    )
    return system._replace(solved_a=_add_rank_one(system, system.solved_a))


def _direction(system: _System, complement: Tensor, scaled: Tensor) -> _Point:
    """The step with ``s dx + x ds = complement`` and ``W⁻¹ dp + W dd = scaled`` that also repairs feasibility."""
    point = system.point
    size = system.size
    head = system.scaling[..., :1]
    tail = system.scaling[..., 1:]
    wanted = _unscale(system, scaled)
    first = size**2 * wanted[..., :1]
    lifted = matvec(system.root, wanted[..., 1:])
    of_head = 2 * head * first * system.bend / (size**2 * system.curvature)
    rhs = complement / point.x - system.infeasible + lifted + of_head
    solved = torch.cholesky_solve(rhs.unsqueeze(-1), system.factor).squeeze(-1)
    part = _add_rank_one(system, solved)
    missing = 1 - _dot(system.a, point.x) - _dot(system.a, part)
    value = missing / _dot(system.a, system.solved_a)
    x = part + value * system.solved_a
    along = _dot(system.bend, x)
    vector = (x.unsqueeze(-2) @ system.root).squeeze(-2)
    length = (first + 2 * head * along) / system.curvature
    turn = (head * first + along) / system.curvature
    # The dual's head is c and never moves.
    dual = wanted[..., 1:] - (vector - 2 * tail * turn) / size**2
    slack = (complement - point.slack * x) / point.x
    primal = torch.cat([length, vector], -1)
    return _Point(
        x,
        slack,
        value,
        primal,
        torch.cat([torch.zeros_like(value), dual], -1),
    )


def _add_rank_one(system: _System, solved: Tensor) -> Tensor:
    """From ``K⁻¹r`` to the solution with ``(K − 2 ggᵀ / curvature) / η²`` (Sherman & Morrison)."""
    left = system.curvature / 2 - _dot(system.bend, system.solved_bend)
    change = system.solved_bend * _dot(system.bend, solved) / left
    return system.size**2 * (solved + change)


def _growth(system: _System, step: _Point) -> Tensor:
    """One over the length at which the step leaves the orthant or the cone, ``[..., 1]``."""
    ratios = [
        -step.x / system.point.x,
        -step.slack / system.point.slack,
        _leaving(system.scaled, _unscale(system, step.primal)),
        _leaving(system.scaled, _scale(system, step.dual)),
    ]
    return torch.cat(ratios, -1).amax(-1, keepdim=True)


def _leaving(point: Tensor, step: Tensor) -> Tensor:
    size = _determinant(point).sqrt()
    unit = point / size
    along = _dot(_mirror(unit), step)
    bend = (along + step[..., :1]) / (1 + unit[..., :1])
    rest = step[..., 1:] - bend * unit[..., 1:]
    length = rest.norm(dim=-1, keepdim=True)
    return (length - along) / size


def _scale(system: _System, vector: Tensor) -> Tensor:
    return system.size * _hyperbolic(system.scaling, vector)


def _unscale(system: _System, vector: Tensor) -> Tensor:
    return _hyperbolic(_mirror(system.scaling), vector) / system.size


def _hyperbolic(w: Tensor, vector: Tensor) -> Tensor:
    w_head = w[..., :1]
    w_tail = w[..., 1:]
    head = vector[..., :1]
    tail = vector[..., 1:]
    inner = _dot(w_tail, tail)
    new_head = w_head * head + inner
    new_tail = tail + (head + inner / (1 + w_head)) * w_tail
    return torch.cat([new_head, new_tail], -1)


def _product(u: Tensor, v: Tensor) -> Tensor:
    """Jordan product of two vectors of the cone's space."""
    head = _dot(u, v)
    tail = u[..., :1] * v[..., 1:] + v[..., :1] * u[..., 1:]
    return torch.cat([head, tail], -1)


def _quotient(u: Tensor, v: Tensor) -> Tensor:
    """The vector whose Jordan product with u is v."""
    head = _dot(_mirror(u), v) / _determinant(u)
    tail = (v[..., 1:] - head * u[..., 1:]) / u[..., :1]
    return torch.cat([head, tail], -1)


def _determinant(vector: Tensor) -> Tensor:
    """``τ² − ‖v‖²``, kept positive: near the boundary of the cone rounding can make it negative."""
    squared = vector[..., :1] ** 2
    tail = vector[..., 1:]
    return (squared - _dot(tail, tail)).clamp(min=1e-60)


def _mirror(vector: Tensor) -> Tensor:
    return torch.cat([vector[..., :1], -vector[..., 1:]], -1)


def _dot(u: Tensor, v: Tensor) -> Tensor:
    return (u * v).sum(-1, keepdim=True)
