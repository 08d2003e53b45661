"""Gradient clipping by norm, of a whole network or of what tasks share and what they own apart.

A gradient method sets the length of the shared part: a sum is up to T times as long as the mean, FairGrad's about √T.
Under one norm for both parts that length decides how far the heads move, too, which no method is about.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtrl.agents.networks.network import Network


def clip_network(
    grad: Tensor, network: Network, max_norm: float | None, apart: bool
) -> dict[str, Tensor]:
    """Scale each member of ``grad`` in place to a norm of at most ``max_norm``.

    Args:
        grad: ``[S, ..., P]``; the axes after the first, such as twin critics, are clipped together.
        network: its layout is that of P: what all tasks share comes first, then what each task owns.
        max_norm: None leaves ``grad`` as it is.
        apart: whether ``max_norm`` bounds the shared and the owned part each by its own norm; else that of both.

    Returns:
        Metrics ``[S]``: ``grad_norm``, the norm of both parts before clipping, and the factors each part was
        multiplied by, ``shared_clip`` and, where tasks own parameters, ``owned_clip``.
    """
    layout = network.layout
    parts = [grad]
    if apart and layout.owned:
        # Frozen parameters come last, and their gradient is 0.
        parts = [grad[..., : layout.num_shared], grad[..., layout.num_shared :]]
    norms, factors = clip_by_norm(parts, max_norm)
    about = {"grad_norm": torch.linalg.vector_norm(norms, dim=0), "shared_clip": factors[0]}
    if layout.owned:
        about["owned_clip"] = factors[-1]
    return about


def clip_by_norm(parts: Sequence[Tensor], max_norm: float | None) -> tuple[Tensor, Tensor]:
    """Scale each member of every part ``[S, ...]`` in place to a norm of at most ``max_norm``; not at all if None.

    Returns:
        The norms before clipping and the factors, ``[parts, S]`` each.
    """
    # Over several axes of a slice a norm is seven times slower than row by row.
    of_rows = torch.stack([torch.linalg.vector_norm(part, dim=-1) for part in parts])
    norms = (
        torch.linalg.vector_norm(of_rows.flatten(2), dim=2) if of_rows.dim() > 2 else of_rows
    )
    if max_norm is None:
        return norms, torch.ones_like(norms)
    # A gradient of zeros has no norm to divide by.
    factors = (max_norm / norms.clamp_min(1e-12)).clamp_max(1.0)
    for part, factor in zip(parts, factors):
        trailing = [1] * (part.dim() - 1)
        part.mul_(factor.view(-1, *trailing))
    return norms, factors
