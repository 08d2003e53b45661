"""Action distributions as functions of network outputs."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


def squashed_gaussian(output: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Reparameterized sample of a tanh-squashed Gaussian and its log density (Haarnoja et al. 2018, appendix C).

    Args:
        output: ``[..., 2A]``, means and log standard deviations; the latter are clamped to [-20, 2].
        noise: standard normal, ``[..., A]``.

    Returns:
        Action in (-1, 1) ``[..., A]`` and log density ``[...]``. The Jacobian term is
        ``2 (log 2 - u - softplus(-2u))``, which is exact where ``log(1 - tanh(u)^2)`` underflows.
    """
    mean, log_std = output.chunk(2, -1)
    log_std = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
    pre_tanh = mean + log_std.exp() * noise
    log_prob = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    log_prob = log_prob - 2 * (math.log(2) - pre_tanh - F.softplus(-2 * pre_tanh))
    return torch.tanh(pre_tanh), log_prob.sum(-1)


def squashed_mode(output: Tensor) -> Tensor:
    """The deterministic action ``tanh(mean)``, ``[..., A]``, of network outputs ``[..., 2A]``."""
    return torch.tanh(output.chunk(2, -1)[0])


def gaussian(mean: Tensor, log_std: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """Log density ``[...]`` of ``action`` ``[..., A]`` under a diagonal Gaussian, and its entropy ``[...]`` in nats."""
    log_std = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX).expand_as(mean)
    z = (action - mean) * torch.exp(-log_std)
    log_prob = -0.5 * z.square() - log_std - 0.5 * math.log(2 * math.pi)
    return log_prob.sum(-1), (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)


def gaussian_sample(mean: Tensor, log_std: Tensor, noise: Tensor) -> Tensor:
    """``mean + std * noise`` for standard normal ``noise``, all ``[..., A]``."""
    return mean + log_std.clamp(LOG_STD_MIN, LOG_STD_MAX).exp() * noise


def clipped_mean(mean: Tensor, log_std: Tensor) -> Tensor:
    """The mean of a Gaussian sample clipped to [-1, 1]: ``E[clip(mean + std * noise, -1, 1)]``, all ``[..., A]``."""
    std = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX).exp()
    low, high = (-1 - mean) / std, (1 - mean) / std
    below, above = torch.special.ndtr(low), torch.special.ndtr(-high)
    density_low, density_high = (
        (-0.5 * z.square()).exp() / math.sqrt(2 * math.pi) for z in (low, high)
    )
    return above - below + mean * (1 - above - below) + std * (density_low - density_high)


def categorical(logits: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """Log probability ``[...]`` of ``action`` (int64 ``[...]``) under ``logits`` ``[..., A]``, and entropy ``[...]``.

    Impossible actions carry very negative logits, not ``-inf``, so that they add 0 to the entropy and not NaN.
    """
    log_prob, entropy = Categorical.apply(logits, action)
    return log_prob, entropy


class Categorical(torch.autograd.Function):
    """``categorical``, with actions as the leading axis inside: a CPU is slow at reductions over a few numbers each."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        rows = logits.flatten(0, -2).mT.contiguous()  # [A, n]
        rows = rows - rows.amax(0)  # not in place: these may be the logits themselves
        prob = rows.exp()
        total = prob.sum(0)
        log_probs, prob = rows.sub_(total.log()), prob.div_(total)
        entropy = -(prob * log_probs).sum(0)
        chosen = action.reshape(1, -1)
        ctx.save_for_backward(prob, log_probs, entropy, chosen)
        ctx.shape = logits.shape
        return log_probs.gather(0, chosen).view(action.shape), entropy.view(action.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        prob, log_probs, entropy, chosen = ctx.saved_tensors
        to_log_prob = grads[0].reshape(1, -1)
        to_entropy = grads[1].reshape(1, -1)
        slope = prob * -(to_log_prob + to_entropy * (log_probs + entropy))
        slope.scatter_add_(0, chosen, to_log_prob)
        return slope.mT.reshape(ctx.shape), None


def categorical_sample(logits: Tensor, noise: Tensor) -> Tensor:
    """An action ``[...]`` from ``logits`` ``[..., A]`` and ``noise`` uniform on [0, 1), by the Gumbel-max trick."""
    return (logits - (-noise.clamp(1e-20, 1.0 - 1e-7).log()).log()).argmax(-1)
