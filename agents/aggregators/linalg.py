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
    if isinstance(value, Tensor):
        value = value.unsqueeze(-1)
    return matrix + identity(matrix) * value


def identity(matrix: Tensor) -> Tensor:
    """The identity ``[m, m]`` of the size, type and device of ``matrix`` ``[..., m]``."""
    return torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)


def or_one(divisor: Tensor) -> Tensor:
    """``divisor`` where it is positive, else 1: for quotients that must stay finite and are then not used."""
    return torch.where(divisor > 0, divisor, 1.0)


def ratio(x: Tensor, divisor: Tensor) -> Tensor:
    """``x / divisor``, 0 where the divisor is not positive."""
    # Both branches of ``where`` are computed; dividing by 1 keeps infinities out of the one not taken.
    quotient = x / or_one(divisor)
    return torch.where(divisor > 0, quotient, 0.0)


def spd_solve(matrix: Tensor, rhs: Tensor) -> Tensor:
    """Solve a positive definite system, ``[..., m, m], [..., m, k]``; not finite where Cholesky breaks down."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    out = torch.cholesky_solve(rhs, factor)
    # ``info`` stays on the device: raising an error would wait for it.
    solved = (info == 0)[..., None, None]
    return torch.where(solved, out, torch.nan)


def may_stop(done: Tensor) -> bool:
    """Whether an iteration may end early: where all problems are ``done`` and looking at that waits for no device."""
    return done.device.type == "cpu" and bool(done.all())


def some_left(open_: Tensor) -> bool:
    """Whether a solver should go on with the problems that are ``open_``: never where looking waits for a device."""
    return open_.device.type == "cpu" and bool(open_.any())


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
    cosine = gramian / norms.unsqueeze(-1) / norms.unsqueeze(-2)
    cosine = cosine.clamp(-1, 1)
    both = active.unsqueeze(-1) & active.unsqueeze(-2)
    eye = identity(gramian)
    # Rounding leaves the diagonal a little off 1.
    matrix = torch.where(both & (eye == 0), cosine, eye)
    return matrix, norms, active


def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues ``[..., m]`` (ascending) and vectors ``[..., m, m]`` of a symmetric matrix.

    LAPACK on the CPU. Elsewhere the library routine waits for the device to report success, so cyclic Jacobi is used.
    """
    if matrix.device.type == "cpu":
        return torch.linalg.eigh(matrix)
    return jacobi_eigh(matrix)


def jacobi_eigh(matrix: Tensor, sweeps: int = 10) -> tuple[Tensor, Tensor]:
    """Jacobi's method with the round-robin ordering: ⌊m/2⌋ disjoint rotations at once, a fixed number of sweeps."""
    m = matrix.shape[-1]
    eye = identity(matrix)
    vectors = eye.expand_as(matrix)
    for p, q in _rounds(m, matrix.device) * sweeps:
        app = matrix[..., p, p]
        aqq = matrix[..., q, q]
        apq = matrix[..., p, q]
        gap = aqq - app
        denominator = gap.abs() + torch.hypot(gap, 2 * apq)
        # Of the two angles that zero the entry, the smaller one, for which the sweeps converge.
        sign = torch.where(gap < 0, -1.0, 1.0)
        t = ratio(2 * apq * sign, denominator)
        c = (t * t + 1).rsqrt()
        s = t * c
        rotation = eye.expand_as(matrix).clone()
        rotation[..., p, p] = c
        rotation[..., q, q] = c
        rotation[..., p, q] = s
        rotation[..., q, p] = -s
        matrix = rotation.mT @ matrix @ rotation
        vectors = vectors @ rotation
    values, order = diagonal(matrix).sort(-1)
    columns = order.unsqueeze(-2).expand_as(vectors)
    return values, vectors.gather(-1, columns)


def _rounds(m: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Pairings of one sweep (circle method), built on the device: every pair of 0 … m − 1 meets once.

    The last of an even number of players stays, the others move round; with an odd m one player sits out.
    """
    if m <= 1:
        return []
    moving = m - 1 + m % 2
    step = torch.arange(1, (moving + 1) // 2, device=device)
    rounds = []
    for r in range(moving):
        p = (r + step) % moving
        q = (r - step) % moving
        if m % 2 == 0:
            still = torch.full((1,), m - 1, device=device)
            opponent = torch.full_like(still, r)
            p = torch.cat([p, opponent])
            q = torch.cat([q, still])
        rounds.append((p, q))
    return rounds


def pinv_apply(matrix: Tensor, vector: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """``A⁺ b`` for symmetric PSD A, eigenvalues below ``m · eps · λ_max`` counted as zero; also the kept mask."""
    values, vectors = eigh(matrix)
    smallest = values[..., -1:] * matrix.shape[-1] * eps
    keep = values > smallest
    inverse = torch.where(keep, 1 / torch.where(keep, values, 1.0), 0.0)
    projected = matvec(vectors.mT, vector)
    return matvec(vectors, inverse * projected), keep
