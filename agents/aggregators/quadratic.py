"""Quadratic programs over the non-negative orthant: splitting finds the active set, pivoting solves on it."""

from __future__ import annotations

import torch
from torch import Tensor

from mtrl.agents.aggregators.interior import nonneg_interior
from mtrl.agents.aggregators.linalg import (
    add_diagonal,
    diagonal,
    identity,
    matvec,
    may_stop,
    or_one,
    some_left,
    spd_solve,
)

SOLVED = 1e-10  # residual at which another iterate would not be better


def nonneg_qp(
    matrix: Tensor, linear: Tensor, *, splitting: int = 32, pivots: int = 6
) -> tuple[Tensor, Tensor]:
    """Minimise ``½ xᵀAx + qᵀx`` over ``x ≥ 0`` for k right-hand sides that share A.

    Over-relaxed ADMM needs one inverse for all k problems and guesses the active set; block principal pivoting
    (Júdice & Pires 1994) then solves on it exactly. On a CPU, where it may stop early, pivoting comes first, from the
    signs of q; most problems need no more. The iterate with the smallest residual is returned. What is then unsolved
    goes to the interior point method on a CPU; elsewhere the caller sees the residual.

    Args:
        matrix: A ``[..., m, m]``, positive definite, diagonal of order 1.
        linear: q ``[..., k, m]``.

    Returns:
        x ``[..., k, m]`` and the residual ``max |min(x, Ax + q)| / max |q|``, ``[..., k]``.
    """
    scale = or_one(linear.abs().amax(-1, keepdim=True))
    q = linear / scale
    on_cpu = q.device.type == "cpu"
    found: list[Tensor] = []
    if on_cpu:
        found.append(_pivot(matrix, q, q < 0, pivots))
        residual = _residual(matrix, q, found[0])
        if may_stop(residual < SOLVED):
            return found[0] * scale, residual
    found.append(_admm(matrix, q, splitting))
    found.append(_pivot(matrix, q, found[-1] > 0, pivots))
    x, residual = _best(matrix, q, found)
    # Negated, so that a residual that is NaN counts as unsolved.
    hard = ~(residual < SOLVED)
    if some_left(hard):
        # The k problems share a matrix; those left are few and go on as problems of their own.
        by_problem = matrix.unsqueeze(-3).expand(*hard.shape, *matrix.shape[-2:])
        shared = by_problem[hard]
        alone = q[hard].unsqueeze(-2)
        inner, slope = nonneg_interior(shared, alone)
        pivoted = _pivot(shared, alone, inner > slope, pivots)
        before = x[hard].unsqueeze(-2)
        better, left = _best(shared, alone, [before, inner, pivoted])
        x[hard] = better.squeeze(-2)
        residual[hard] = left.squeeze(-1)
    return x * scale, residual


def _best(matrix: Tensor, q: Tensor, found: list[Tensor]) -> tuple[Tensor, Tensor]:
    """For each problem the iterate of smallest residual, and that residual."""
    errors = torch.stack([_residual(matrix, q, x) for x in found], -1)
    residual, best = errors.nan_to_num(nan=torch.inf).min(-1)
    iterates = torch.stack(found, -2)
    index = best[..., None, None]
    x = iterates.gather(-2, index.expand(*q.shape[:-1], 1, q.shape[-1]))
    return x.squeeze(-2), residual


def _residual(matrix: Tensor, q: Tensor, x: Tensor) -> Tensor:
    slope = x @ matrix + q
    return torch.minimum(x, slope).abs().amax(-1)


def _admm(
    matrix: Tensor, q: Tensor, iterations: int, rho: float = 0.1, relaxation: float = 1.6
) -> Tensor:
    eye = identity(matrix).expand_as(matrix)
    inverse = spd_solve(add_diagonal(matrix, rho), eye)
    offset = q @ inverse
    inverse = inverse * rho
    z = torch.zeros_like(q)
    u = torch.zeros_like(q)
    for _ in range(iterations):
        minimum = (z - u) @ inverse - offset
        x = torch.lerp(z, minimum, relaxation) + u
        z = x.clamp(min=0)
        u = x - z
    return z


def _pivot(
    matrix: Tensor, q: Tensor, free: Tensor, iterations: int, slack: float = 1e-12
) -> Tensor:
    """Flip every infeasible index while that helps, only the last one otherwise (Murty), which cannot cycle."""
    m = q.shape[-1]
    eye = identity(q)
    index = torch.arange(1, m + 1, device=q.device)
    problems = q.shape[:-1]
    fewest = torch.full(problems, m + 1, device=q.device)
    # A block may flip three times without fewer infeasible indices before single flips take over.
    tries = torch.full(problems, 3, device=q.device)
    shared = matrix.unsqueeze(-3)
    x = torch.zeros_like(q)
    for k in range(iterations):
        both = free.unsqueeze(-1) & free.unsqueeze(-2)
        rhs = torch.where(free, -q, 0.0).unsqueeze(-1)
        on_free = torch.where(both, shared, eye)
        x = spd_solve(on_free, rhs).squeeze(-1)
        if k == iterations - 1:
            break
        slope = x @ matrix + q
        wrong = torch.where(free, x, slope) < -slack
        if may_stop(~wrong):
            break
        count = wrong.sum(-1)
        better = count < fewest
        block = better | (tries > 0)
        tries = torch.where(better, 3, tries - 1)
        fewest = torch.minimum(fewest, count)
        last = (wrong * index).argmax(-1, keepdim=True) == index - 1
        flipped = wrong & (block.unsqueeze(-1) | last)
        free = free ^ flipped
    return x.clamp(min=0)


def min_norm_point(
    cosine: Tensor, norms: Tensor, active: Tensor, ridge: float, absent: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Convex weights of the point of smallest norm in the hull of the gradients, and the scaled duality gap.

    ``min_{w ∈ simplex} wᵀGw`` is ``min_{v ≥ 0} ½ vᵀ(G + 11ᵀ)v − 1ᵀv`` up to the scale of v. Solved for unit gradients
    (``x = v · norm``), so that rows of very different size are resolved equally well. A zero gradient is the point
    itself. The gap is ``max_i (‖d‖² − g_i·d) / (‖g_i‖ · min ‖g‖)`` with the ridge in the products, whose rounding it
    covers: a weight far above that of the shortest gradient multiplies that rounding.

    Args:
        absent: bool ``[..., m]``, tasks with zero gradients that do not belong to the hull; None if all belong to it.
    """
    inverse = torch.where(active, 1 / norms, 0.0)
    longest = inverse.amax(-1, keepdim=True)
    a = inverse / or_one(longest)
    outer = a.unsqueeze(-1) * a.unsqueeze(-2)
    matrix = add_diagonal(cosine + outer, ridge)
    solved, _ = nonneg_qp(matrix, -a.unsqueeze(-2))
    x = solved.squeeze(-2)
    weights = x * a
    total = weights.sum(-1, keepdim=True)
    scaled = x / or_one(total)
    weights = weights / or_one(total)

    slope = matvec(cosine, scaled) + ridge * scaled
    squared = (scaled * slope).sum(-1, keepdim=True)
    gap = (squared * a - slope).masked_fill(~active, 0.0).amax(-1)
    # x = 0 has a gap of 0, but no weights.
    gap = torch.where(total.squeeze(-1) > 0, gap, torch.inf)

    is_zero = ~active if absent is None else ~active & ~absent
    zero = is_zero.to(weights.dtype)
    num_zero = zero.sum(-1, keepdim=True)
    of_zeros = zero / num_zero.clamp(min=1)
    weights = torch.where(num_zero > 0, of_zeros, weights)
    return weights, torch.where(num_zero.squeeze(-1) > 0, 0.0, gap)


def dual_cone(
    gramian: Tensor, vectors: Tensor, reg: float, pivots: int = 6
) -> tuple[Tensor, Tensor]:
    """Weights of the projections of ``Jᵀu`` on ``{d : J d ≥ 0}``: ``min vᵀGv, v ≥ u`` (Quinton & Rey, prop. 1).

    Args:
        gramian: ``[..., m, m]`` of any scale; ``reg`` times the identity is added after dividing by the trace.
        vectors: u ``[..., k, m]``.

    Returns:
        v ``[..., k, m]`` and the relative KKT residual ``[..., k]``.
    """
    trace = diagonal(gramian).sum(-1)[..., None, None]
    matrix = add_diagonal(gramian / or_one(trace), reg)
    # A unit diagonal, which ``nonneg_qp`` asks for.
    root = diagonal(matrix).sqrt().unsqueeze(-2)
    unit = matrix / root / root.mT
    linear = (vectors * root) @ unit
    x, residual = nonneg_qp(unit, linear, pivots=pivots)
    return vectors + x / root, residual
