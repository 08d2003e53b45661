"""Small dense linear algebra over leading dimensions, without host synchronisation."""

from __future__ import annotations

import torch
from torch import Tensor


def matvec(matrix: Tensor, vector: Tensor) -> Tensor:
    """``[..., m, m], [..., m] → [..., m]``."""
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def diagonal(matrix: Tensor) -> Tensor:
    """Diagonal over the last two axes."""
    return matrix.diagonal(dim1=-2, dim2=-1)


def add_diagonal(matrix: Tensor, value: Tensor | float) -> Tensor:
    """``matrix + diag(value)``; ``value`` ``[..., m]`` or a number."""
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return matrix + eye * (value.unsqueeze(-1) if isinstance(value, Tensor) else value)


def spd_solve(matrix: Tensor, rhs: Tensor) -> Tensor:
    """Solve a positive definite system, ``[..., m, m], [..., m, k]``; not finite where Cholesky breaks down."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    out = torch.cholesky_solve(rhs, factor)
    return torch.where((info == 0)[..., None, None], out, torch.nan)


def may_stop(done: Tensor) -> bool:
    """Whether an iteration may end early: where all problems are ``done`` and looking at that waits for no device."""
    return done.device.type == "cpu" and bool(done.all())


def ridge_floor(num_tasks: int, eps: float) -> float:
    """Ridge on a correlation matrix that covers the rounding of a Gramian held with resolution ``eps``."""
    return max(1e-10, eps * num_tasks**0.5)


def correlation(gramian: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gramian of the unit gradients, the norms, and which are not zero.

    Returns:
        ``[..., m, m]`` with zero rows and columns replaced by those of the identity, ``[..., m]`` norms with 1 in
        place of 0, bool ``[..., m]``.
    """
    squared = diagonal(gramian)
    active = squared > 0
    norms = torch.where(active, squared, 1.0).sqrt()
    cosine = (gramian / norms.unsqueeze(-1) / norms.unsqueeze(-2)).clamp(-1, 1)
    both = active.unsqueeze(-1) & active.unsqueeze(-2)
    eye = torch.eye(gramian.shape[-1], dtype=gramian.dtype, device=gramian.device)
    return torch.where(both & (eye == 0), cosine, eye), norms, active


def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues ``[..., m]`` (ascending) and vectors ``[..., m, m]`` of a symmetric matrix.

    LAPACK on the CPU. Elsewhere the library routine waits for the device to report success, so cyclic Jacobi is used.
    """
    return torch.linalg.eigh(matrix) if matrix.device.type == "cpu" else jacobi_eigh(matrix)


def jacobi_eigh(matrix: Tensor, sweeps: int = 10) -> tuple[Tensor, Tensor]:
    """Jacobi's method with the round-robin ordering: ⌊m/2⌋ disjoint rotations at once, a fixed number of sweeps."""
    m = matrix.shape[-1]
    eye = torch.eye(m, dtype=matrix.dtype, device=matrix.device)
    vectors = eye.expand_as(matrix)
    for p, q in _rounds(m, matrix.device) * sweeps:
        app, aqq, apq = matrix[..., p, p], matrix[..., q, q], matrix[..., p, q]
        gap = aqq - app
        denominator = gap.abs() + torch.hypot(gap, 2 * apq)
        sign = torch.where(gap < 0, -1.0, 1.0)
        t = torch.where(
            denominator > 0, 2 * apq * sign / torch.where(denominator > 0, denominator, 1.0), 0.0
        )
        c = (t * t + 1).rsqrt()
        s = t * c
        rotation = eye.expand_as(matrix).clone()
        rotation[..., p, p], rotation[..., q, q] = c, c
        rotation[..., p, q], rotation[..., q, p] = s, -s
        matrix = rotation.mT @ matrix @ rotation
        vectors = vectors @ rotation
    values, order = diagonal(matrix).sort(-1)
    return values, vectors.gather(-1, order.unsqueeze(-2).expand_as(vectors))


def _rounds(m: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Pairings of one sweep (circle method), built on the device: every pair of 0 … m − 1 meets once.

    The last of an even number of players stays, the others move round; an odd m plays with one to sit out.
    """
    moving = m - 1 + m % 2
    step = torch.arange(1, (moving + 1) // 2, device=device)
    rounds = []
    for r in range(moving if m > 1 else 0):
        p, q = (r + step) % moving, (r - step) % moving
        if m % 2 == 0:
            still = torch.full((1,), m - 1, device=device)
            p, q = torch.cat([p, torch.full_like(still, r)]), torch.cat([q, still])
        rounds.append((p, q))
    return rounds


def pinv_apply(matrix: Tensor, vector: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """``A⁺ b`` for symmetric PSD A, eigenvalues below ``m · eps · λ_max`` counted as zero; also the kept mask."""
    values, vectors = eigh(matrix)
    keep = values > values[..., -1:] * matrix.shape[-1] * eps
    inverse = torch.where(keep, 1 / torch.where(keep, values, 1.0), 0.0)
    return matvec(vectors, inverse * matvec(vectors.mT, vector)), keep
