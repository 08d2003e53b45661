"""SAC for discrete actions (Christodoulou 2019, arXiv 1910.07207): exact expectations over actions instead of samples.

The critics give a value for every action, the policy is categorical. Actions that a task lacks have probability 0, so
they enter neither values nor entropies.
"""

from __future__ import annotations

import torch
from torch import Tensor


def categorical_policy(logits: Tensor, action_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and log probabilities ``[S, T, b, A]`` of masked logits; ``action_mask`` broadcasts to them."""
    log_prob = torch.log_softmax(logits.masked_fill(~action_mask, -1e9), -1)
    return log_prob.exp(), log_prob


def soft_value(prob: Tensor, log_prob: Tensor, q: Tensor, alpha: Tensor) -> Tensor:
    """``sum_a pi(a|s) (min_k Q_k(s, a) - alpha log pi(a|s))``, ``[S, T, b]`` (equation 10).

    Args:
        q: ``[S, 2, T, b, A]``.
        alpha: ``[S, T]``.
    """
    return (prob * (q.amin(1) - alpha[..., None, None] * log_prob)).sum(-1)


def taken(q: Tensor, action: Tensor) -> Tensor:
    """Values ``[S, 2, T, b]`` of the actions ``[S, T, b]`` or ``[S, T, b, 1]`` among ``[S, 2, T, b, A]``."""
    index = action.long().view(q.shape[0], 1, *q.shape[2:4], 1).expand(-1, 2, -1, -1, -1)
    return q.gather(-1, index).squeeze(-1)


def entropy_targets(num_actions: tuple[int, ...], fraction: float) -> Tensor:
    """``fraction log |A_t|`` in nats, ``[T]``: a share of the entropy of acting at random."""
    return fraction * torch.tensor(num_actions, dtype=torch.float32).log()
