"""Quadratic programs over the non-negative orthant: splitting finds the active set, pivoting solves on it."""

from __future__ import annotations

import torch
from torch import Tensor

from mtrl.agents.aggregators.interior import nonneg_interior
from mtrl.agents.aggregators.linalg import add_diagonal, diagonal, matvec, may_stop, spd_solve

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
    scale = linear.abs().amax(-1, keepdim=True)
    scale = torch.where(scale > 0, scale, 1.0)
    q = linear / scale
    found: list[Tensor] = []
    if q.device.type == "cpu":
        found.append(_pivot(matrix, q, q < 0, pivots))
        residual = _residual(matrix, q, found[0])
        if may_stop(residual < SOLVED):
            return found[0] * scale, residual
    found.append(_admm(matrix, q, splitting))
    found.append(_pivot(matrix, q, found[-1] > 0, pivots))
    x, residual = _best(matrix, q, found)
    hard = ~(residual < SOLVED)
    if q.device.type == "cpu" and not may_stop(~hard):
        shared = matrix.unsqueeze(-3).expand(*hard.shape, *matrix.shape[-2:])[hard]
        alone = q[hard].unsqueeze(-2)
        inner, slope = nonneg_interior(shared, alone)
        found = [x[hard].unsqueeze(-2), inner, _pivot(shared, alone, inner > slope, pivots)]
        better, left = _best(shared, alone, found)
        x[hard] = better.squeeze(-2)
        residual[hard] = left.squeeze(-1)
    return x * scale, residual


def _best(matrix: Tensor, q: Tensor, found: list[Tensor]) -> tuple[Tensor, Tensor]:
    errors = torch.stack([_residual(matrix, q, x) for x in found], -1)
    residual, best = errors.nan_to_num(nan=torch.inf).min(-1)
    x = torch.stack(found, -2).gather(
        -2, best[..., None, None].expand(*q.shape[:-1], 1, q.shape[-1])
    )
    return x.squeeze(-2), residual


def _residual(matrix: Tensor, q: Tensor, x: Tensor) -> Tensor:
    return torch.minimum(x, x @ matrix + q).abs().amax(-1)


def _admm(
    matrix: Tensor, q: Tensor, iterations: int, rho: float = 0.1, relaxation: float = 1.6
) -> Tensor:
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    inverse = spd_solve(add_diagonal(matrix, rho), eye.expand_as(matrix))
    offset = q @ inverse
    inverse = inverse * rho
    z = torch.zeros_like(q)
    u = torch.zeros_like(q)
    for _ in range(iterations):
        x = torch.lerp(z, (z - u) @ inverse - offset, relaxation) + u
        z = x.clamp(min=0)
        u = x - z
    return z


def _pivot(
    matrix: Tensor, q: Tensor, free: Tensor, iterations: int, slack: float = 1e-12
) -> Tensor:
    """Flip every infeasible index while that helps, only the last one otherwise (Murty), which cannot cycle."""
    m = q.shape[-1]
    eye = torch.eye(m, dtype=q.dtype, device=q.device)
    index = torch.arange(1, m + 1, device=q.device)
    fewest = torch.full(q.shape[:-1], m + 1, device=q.device)
    tries = torch.full(q.shape[:-1], 3, device=q.device)
    shared = matrix.unsqueeze(-3)
    x = torch.zeros_like(q)
    for k in range(iterations):
        both = free.unsqueeze(-1) & free.unsqueeze(-2)
        rhs = torch.where(free, -q, 0.0).unsqueeze(-1)
        x = spd_solve(torch.where(both, shared, eye), rhs).squeeze(-1)
        if k == iterations - 1:
            break
        wrong = torch.where(free, x, x @ matrix + q) < -slack
        if may_stop(~wrong):
            break
        count = wrong.sum(-1)
        better = count < fewest
        block = better | (tries > 0)
        tries = torch.where(better, 3, tries - 1)
        fewest = torch.minimum(fewest, count)
        last = (wrong * index).argmax(-1, keepdim=True) == index - 1
        free = free ^ (wrong & (block.unsqueeze(-1) | last))
    return x.clamp(min=0)


def min_norm_point(
    cosine: Tensor, norms: Tensor, active: Tensor, ridge: float
) -> tuple[Tensor, Tensor]:
    """Convex weights of the point of smallest norm in the hull of the gradients, and the scaled duality gap.

    ``min_{w ∈ simplex} wᵀGw`` is ``min_{v ≥ 0} ½ vᵀ(G + 11ᵀ)v − 1ᵀv`` up to the scale of v. Solved for unit gradients
    (``x = v · norm``), so that rows of very different size are resolved equally well. A zero gradient is the point
    itself. The gap is ``max_i (‖d‖² − g_i·d) / (‖g_i‖ · min ‖g‖)`` with the ridge in the products, whose rounding it
    covers: a weight far above that of the shortest gradient multiplies that rounding.
    """
    inverse = torch.where(active, 1 / norms, 0.0)
    longest = inverse.amax(-1, keepdim=True)
    a = inverse / torch.where(longest > 0, longest, 1.0)
    x, _ = nonneg_qp(
        add_diagonal(cosine + a.unsqueeze(-1) * a.unsqueeze(-2), ridge), -a.unsqueeze(-2)
    )
    weights = x.squeeze(-2) * a
    total = weights.sum(-1, keepdim=True)
    scaled = x.squeeze(-2) / torch.where(total > 0, total, 1.0)
    weights = weights / torch.where(total > 0, total, 1.0)
    slope = matvec(cosine, scaled) + ridge * scaled
    gap = ((scaled * slope).sum(-1, keepdim=True) * a - slope).masked_fill(~active, 0.0).amax(-1)
    gap = torch.where(total.squeeze(-1) > 0, gap, torch.inf)  # x = 0 has no weights, and a gap of 0
    zero = (~active).to(weights.dtype)
    any_zero = zero.sum(-1, keepdim=True)
    weights = torch.where(any_zero > 0, zero / any_zero.clamp(min=1), weights)
    return weights, torch.where(any_zero.squeeze(-1) > 0, 0.0, gap)


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
    matrix = add_diagonal(gramian / torch.where(trace > 0, trace, 1.0), reg)
    root = diagonal(matrix).sqrt().unsqueeze(-2)
    unit = matrix / root / root.mT
    x, residual = nonneg_qp(unit, (vectors * root) @ unit, pivots=pivots)
    return vectors + x / root, residual
