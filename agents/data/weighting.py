"""What a sample counts in the actor's loss: all the same, or those of low value more (RMTL)."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from mtrl.agents.optim.weighted import Weight
from mtrl.agents.settings import NonNegative, ShareBelowOne, settings

State = dict[str, Tensor]
LOW, HIGH = 0.05, 0.95  # quantiles of a task's values that stand for the ends of their range


class SampleWeighting(ABC):
    """Weights of samples in the actor's loss, from the values that the critic gives them."""

    def init(self, seeds: int, num_tasks: int, device: torch.device) -> State:
        """State before the first update, with axes ``[S, T]``; ``{}`` for a rule without any."""
        return {}

    @abstractmethod
    def weights(self, value: Tensor, state: State) -> tuple[Weight, State]:
        """Weights ``[S, T, n]`` of mean 1 a task, through which no gradient flows, and the new state.

        Args:
            value: ``[S, T, n]``, the critic's of each sample.
        """


@settings
class Equal(SampleWeighting):
    """Every sample counts the same."""

    def weights(self, value: Tensor, state: State) -> tuple[Weight, State]:
        return None, state


@settings
class RMTL(SampleWeighting):
    """``w ∝ 1 − λ q̃`` with ``q̃ = (Q − Q_max) / (Q_max − Q_min)`` in [-1, 0] (Liu et al. 2023, arXiv 2302.03328).

    The ends of a task's range are its 0.05 and 0.95 quantiles, averaged over updates, since values on their own scale
    would weigh tasks and not samples. Weights have mean 1 a task.
    """

    lam: NonNegative = 1.0
    """λ: a sample at the lower end counts 1 + λ times as much as one at the upper end."""
    decay: ShareBelowOne = 0.9
    """What the averages of the quantiles keep of their past at an update."""

    def init(self, seeds: int, num_tasks: int, device: torch.device) -> State:
        zeros = torch.zeros(seeds, num_tasks, device=device)
        return {"low": zeros, "high": zeros.clone(), "updates": zeros.clone()}

    @torch.no_grad()
    def weights(self, value: Tensor, state: State) -> tuple[Weight, State]:
        ordered = value.float().sort(-1).values
        # The first update has no past, whose zeros would be no values.
        has_past = state["updates"] > 0
        kept = torch.where(has_past, self.decay, 0.0)
        lowest = quantile(ordered, LOW)
        highest = quantile(ordered, HIGH)
        low = torch.lerp(lowest, state["low"], kept)
        high = torch.lerp(highest, state["high"], kept)
        top = high.unsqueeze(-1)
        span = top - low.unsqueeze(-1)
        has_range = span > 0
        safe_span = torch.where(has_range, span, 1.0)
        below = ((value - top) / safe_span).clamp(-1, 0)
        place = torch.where(has_range, below, 0.0)
        weight = 1 - self.lam * place
        mean = weight.mean(-1, keepdim=True)
        new = {
            "low": low,
            "high": high,
            "updates": state["updates"] + 1,
        }
        return weight / mean, new


def quantile(ordered: Tensor, share: float) -> Tensor:
    """The quantile ``[...]`` of ascending values ``[..., n]``, between the two nearest; ``torch.quantile`` waits for
    a device."""
    place = share * (ordered.shape[-1] - 1)
    below = int(place)
    above = min(below + 1, ordered.shape[-1] - 1)
    return torch.lerp(ordered[..., below], ordered[..., above], place - below)
