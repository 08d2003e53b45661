"""Gradients per task as pieces ``[S, twins, groups, n]``, one a parameter, so that no Jacobian has to be assembled."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

MOST_ROWS = 24


def has_kernels(piece: Tensor) -> bool:
    """Whether compiled loops take the piece as it is. With more rows a library is as fast, and has threads."""
    if piece.device.type != "cpu" or piece.dtype != torch.bfloat16:
        return False
    return piece.shape[2] <= MOST_ROWS


def jacobian_of(pieces: list[Tensor]) -> Tensor:
    """``[S, T, P]`` float32 of pieces ``[S, twins, T, n]``."""
    rows = [piece.transpose(1, 2).flatten(2) for piece in pieces]
    return torch.cat(rows, -1).float()


def gramian_of(pieces: list[Tensor], halves: bool = False) -> Tensor:
    """``Σ_pieces J Jᵀ`` ``[S, T, T]`` float32 of pieces ``[S, twins, T, n]``.

    With ``halves`` ``J₁ J₂ᵀ`` of pieces ``[S, twins, 2 T, n]``, whose rows alternate between the two.
    """
    shares = []
    for piece in pieces:
        if has_kernels(piece):
            continue
        left = piece[:, :, ::2] if halves else piece
        right = piece[:, :, 1::2] if halves else piece
        shares.append((left @ right.mT).sum(1))
    narrow = [piece for piece in pieces if has_kernels(piece)]
    if narrow:
        # Imported here because only some methods need compiled code.
        from mtrl.agents.optim.gramian_kernels import add_products

        seeds, _, groups, _ = narrow[0].shape
        tasks = groups // 2 if halves else groups
        total = np.zeros((seeds, tasks, tasks))
        for piece in narrow:
            add_products(bits(piece), halves, total)
        shares.append(torch.from_numpy(total).float())
    return torch.stack(shares).sum(0)


def combine(piece: Tensor, weights: Tensor) -> Tensor:
    """``Jᵀ w`` ``[S, twins, n]`` float32 of one piece ``[S, twins, groups, n]``."""
    parts = piece.shape[2] // weights.shape[-1]
    per_group = weights.repeat_interleave(parts, -1)
    if not has_kernels(piece):
        return (per_group[:, None, None] @ piece).squeeze(2)
    from mtrl.agents.optim.gramian_kernels import weigh_rows

    out = torch.empty(*piece.shape[:2], piece.shape[3])
    weigh_rows(bits(piece), per_group.numpy(), out.numpy())
    return out


def bits(piece: Tensor) -> np.ndarray:
    """The bits of a piece in bfloat16, for compiled loops."""
    array: np.ndarray = piece.contiguous().view(torch.uint16).numpy()
    return array


def split(direction: Tensor, pieces: list[Tensor]) -> list[Tensor]:
    """Undo the concatenation of ``jacobian_of``: ``[..., twins, n]`` of ``[..., P]`` for each piece."""
    shapes = [(piece.shape[1], piece.shape[3]) for piece in pieces]
    sizes = [twins * width for twins, width in shapes]
    parts = direction.split(sizes, -1)
    return [part.unflatten(-1, shape) for part, shape in zip(parts, shapes)]
