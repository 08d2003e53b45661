"""Frank–Wolfe (1956) on the scaled simplex with the origin: no projection, every iterate feasible."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def frank_wolfe(
    objective: Callable[[Tensor], Tensor], start: Tensor, steps: int = 10, radius: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Minimizes ``objective`` over ``{x ≥ 0, Σ x ≤ radius}`` with steps ``2 / (k + 2)``.

    For a convex objective, ``f(x_K) − f* ≤ 2 C / (K + 2)`` with C the curvature constant (Jaggi 2013, theorem 1), and
    the duality gap bounds ``f(x) − f*`` at every x.

    Args:
        objective: scalar function of ``[n]``, differentiable.
        start: feasible point ``[n]``.

    Returns:
        The last iterate ``[n]`` and its duality gap ``max_s <x − s, ∇f(x)>``, a scalar.
    """
    x = start.detach()
    for k in range(steps):
        # A step is a convex combination with a vertex, so every iterate is feasible.
        vertex = linear_minimizer(gradient(objective, x), radius)
        x = x + 2 / (k + 2) * (vertex - x)
    slope = gradient(objective, x)
    vertex = linear_minimizer(slope, radius)
    gap = (slope * (x - vertex)).sum()
    return x, gap


def linear_minimizer(slope: Tensor, radius: float) -> Tensor:
    """The vertex that minimizes ``<s, slope>``: ``radius e_j`` at the most negative entry, 0 where none is negative."""
    best = slope.argmin()
    vertex = torch.zeros_like(slope)
    vertex[best] = radius * (slope[best] < 0).to(slope.dtype)
    return vertex


def gradient(objective: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``∇ objective(x)`` ``[n]``."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(objective(x), [x])
    return slope
