"""Adam on flat, stacked parameters, as functions of declared state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.adam import adam


@dataclass(frozen=True)
class AdamSettings:
    """Settings of Adam (Kingma & Ba 2015, algorithm 1).

    Attributes:
        learning_rate: a number, or a float32 tensor of one, which a recorded update reads anew at every call.
        weight_decay: share of the parameters, times the step size, that ``decay`` takes (AdamW, Loshchilov & Hutter
            2019).
    """

    learning_rate: float | Tensor
    eps: float
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.0


def adam_state(params: Tensor, per_member: bool = False) -> dict[str, Tensor]:
    """State of Adam for ``params``: parameters, both moments (same shape) and the step count.

    Args:
        per_member: count steps for each member ``params[s]`` on its own, so that members can stop at different times.
    """
    return {
        "params": params,
        "exp_avg": torch.zeros_like(params),
        "exp_avg_sq": torch.zeros_like(params),
        "step": torch.zeros(params.shape[:1] if per_member else (), device=params.device),
    }


def adam_step(
    state: dict[str, Tensor],
    grad: Tensor,
    settings: AdamSettings,
    members: Sequence[int] | None = None,
) -> None:
    """One fused step, in place on ``state``; ``grad`` has the shape of ``state["params"]``.

    Args:
        members: the members to step, of a state made with ``per_member``; None steps all.
    """
    if members is None and state["step"].dim():
        members = range(len(state["step"]))
    tensors = (
        state["params"],
        grad,
        state["exp_avg"],
        state["exp_avg_sq"],
        state["step"],
    )
    if members is None:
        lists = [[tensor] for tensor in tensors]
    else:
        # Members are views, so the fused step writes into the stacked state.
        lists = [[tensor[member] for member in members] for tensor in tensors]
    params, grads, exp_avgs, exp_avg_sqs, steps = lists
    adam(
        params,
        grads,
        exp_avgs,
        exp_avg_sqs,
        [],
        steps,
        fused=True,
        amsgrad=False,
        beta1=settings.beta1,
        beta2=settings.beta2,
        lr=settings.learning_rate,
        weight_decay=0.0,
        eps=settings.eps,
        maximize=False,
    )


@torch.no_grad()
def decay(
    params: Tensor,
    settings: AdamSettings,
    trains: Tensor | None = None,
    members: Sequence[int] | None = None,
) -> None:
    """Shrink parameters ``[S, ...]`` in place by AdamW's decoupled decay; apart from its gradients, so called before.

    Biases and gains of normalizations decay too, as where published code gives an optimizer all of a network.

    Args:
        trains: bool of the shape of ``params``, those that train now; None for all.
        members: the members to shrink; None for all.
    """
    if not settings.weight_decay:
        return
    kept = 1 - settings.learning_rate * settings.weight_decay
    for member in range(len(params)) if members is None else members:
        if trains is None:
            params[member] *= kept
        else:
            params[member] *= torch.where(trains[member], kept, 1.0)
