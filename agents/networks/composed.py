"""Weights that each task composes of sets that all share, formed once, so that rows cost what one set costs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mtrl.agents.networks.linear import differs_by_task


def compose(sets: Tensor, mixture: Tensor) -> Tensor:
    """``W_t = Σ_e w_te Φ_e``, ``[K, G, ...]`` in the dtype of the sets.

    Args:
        sets: ``[K, G, E, ...]``; expanded over tasks, they get their gradient per task.
        mixture: ``[K, T, E]``.
    """
    parts = max(sets.shape[1] // mixture.shape[1], 1)
    # A task whose rows are split in groups has its weights once for each.
    by_group = mixture.repeat_interleave(parts, 1)
    composed: Tensor = Compose.apply(sets, by_group)
    return composed


class Compose(torch.autograd.Function):
    """``compose`` with a mixture for each group; it neither copies expanded sets nor writes out their axis of groups.

    With ``G_t`` the gradient of ``W_t``, that of ``w_te`` is ``⟨Φ_e, G_t⟩``, and that of ``Φ_e`` is ``Σ_t w_te G_t``,
    or ``w_te G_t`` for each task.
    """

    @staticmethod
    def forward(ctx: Any, sets: Tensor, mixture: Tensor) -> Tensor:
        ctx.shape = sets.shape
        own = differs_by_task(sets)
        used = sets if own else sets[:, :1]
        ctx.save_for_backward(used, mixture)
        flat = used.flatten(3)
        weights = mixture.to(sets.dtype)
        product = weights.unsqueeze(2) @ flat if own else weights @ flat[:, 0]
        return product.view(*mixture.shape[:2], *sets.shape[3:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        used, mixture = ctx.saved_tensors
        need_sets, need_mixture = ctx.needs_input_grad
        grad = grads[0].flatten(2)
        weights = mixture.to(grad.dtype)
        to_sets = None
        to_mixture = None
        if need_sets:
            if ctx.shape[1] == 1:
                to_sets = (weights.mT @ grad).view(ctx.shape)
            else:
                to_sets = (weights.unsqueeze(3) * grad.unsqueeze(2)).view(ctx.shape)
        if need_mixture:
            flat = used.flatten(3)
            own = used.shape[1] > 1
            product = (flat @ grad.unsqueeze(3)).squeeze(3) if own else grad @ flat[:, 0].mT
            to_mixture = product.to(mixture.dtype)
        return to_sets, to_mixture
