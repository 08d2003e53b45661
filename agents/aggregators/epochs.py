"""Epoch means of the losses and their ratios, counted on the device: an epoch is a fixed number of updates."""

from __future__ import annotations

import torch
from torch import Tensor

from mtrl.agents.aggregators.base import State

# Smallest denominator of a ratio of losses.
TINY = 1e-8
# Sum and number of the running epoch's losses, and the number of finished epochs.
EPOCH_STATE = {"total": ("m", 0.0), "count": ("", 0.0), "epochs": ("", 0.0)}


def epoch_mean(losses: Tensor, state: State, period: int) -> tuple[Tensor, Tensor, State]:
    """Count one update.

    Returns:
        Mean loss of the epoch so far ``[..., m]``, whether this update ends it (bool ``[..., 1]``), and the new state.
    """
    total = state["total"] + losses
    count = state["count"] + 1
    ended = count >= period
    kept = {
        "total": torch.where(ended.unsqueeze(-1), 0.0, total),
        "count": torch.where(ended, 0.0, count),
        "epochs": state["epochs"] + ended,
    }
    mean = total / count.unsqueeze(-1)
    return mean, ended.unsqueeze(-1), kept


def loss_ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Ratio of two losses in [0, 1e12], finite also where one of them is zero or negative."""
    quotient = numerator.clamp(min=0) / denominator.clamp(min=TINY)
    return quotient.clamp(max=1e12)
