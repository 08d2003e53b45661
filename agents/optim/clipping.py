"""Gradient clipping by norm, with the parameters all tasks share and those that tasks own clipped apart.

A gradient method sets the length of the shared part: PCGrad's sum is up to T times as long as the mean, FairGrad's
about √T. Under one norm for both parts that length would decide how far the heads move, which no method is about.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtrl.agents.networks.network import Network


def clip_parts(grad: Tensor, network: Network, max_norm: float | None) -> dict[str, Tensor]:
    """Scale the shared and the owned part of each member of ``grad`` in place to norms of at most ``max_norm``.

    Args:
        grad: ``[S, ..., P]``; the axes after the first, such as twin critics, are clipped together.
        network: its layout is that of P: what all tasks share comes first, then what each task owns.
        max_norm: None leaves ``grad`` as it is.

    Returns:
        Metrics ``[S]``: ``grad_norm``, the norm of both parts before clipping, and the factors each part was
        multiplied by, ``shared_clip`` and, where tasks own parameters, ``owned_clip``.
    """
    layout = network.layout
    norm, factor = clip_by_norm(grad[..., : layout.num_shared], max_norm)
    if not layout.owned:
        return {"grad_norm": norm, "shared_clip": factor}
    # Frozen parameters come last, and their gradient is 0.
    owned_norm, owned_factor = clip_by_norm(grad[..., layout.num_shared :], max_norm)
    return {
        "grad_norm": torch.hypot(norm, owned_norm),
        "shared_clip": factor,
        "owned_clip": owned_factor,
    }


def clip_by_norm(grad: Tensor, max_norm: float | None) -> tuple[Tensor, Tensor]:
    """Scale each member of ``grad`` ``[S, ...]`` in place to a norm of at most ``max_norm``; not at all if None.

    Returns:
        The norms before clipping and the factors, ``[S]`` each.
    """
    # Over several axes of a slice the norm is seven times slower than row by row.
    of_rows = torch.linalg.vector_norm(grad, dim=-1)
    norm = torch.linalg.vector_norm(of_rows.view(len(grad), -1), dim=1)
    if max_norm is None:
        return norm, torch.ones_like(norm)
    # A gradient of zeros has no norm to divide by.
    factor = (max_norm / norm.clamp_min(1e-12)).clamp_max(1.0)
    trailing = [1] * (grad.dim() - 1)
    grad.mul_(factor.view(-1, *trailing))
    return norm, factor
