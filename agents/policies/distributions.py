"""Action distributions as functions of network outputs."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_STD_MIN = -20.0
LOG_STD_MAX = 2.0
LOG_2 = math.log(2)
HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)
HALF_LOG_2_PI_E = 0.5 * math.log(2 * math.pi * math.e)


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
    # At a sample the standardized distance from the mean is the noise itself.
    log_prob = -0.5 * noise.square() - log_std - HALF_LOG_2_PI
    log_jacobian = 2 * (LOG_2 - pre_tanh - F.softplus(-2 * pre_tanh))
    log_prob = log_prob - log_jacobian
    return torch.tanh(pre_tanh), log_prob.sum(-1)


def squashed_mode(output: Tensor) -> Tensor:
    """The deterministic action ``tanh(mean)``, ``[..., A]``, of network outputs ``[..., 2A]``."""
    mean, _ = output.chunk(2, -1)
    return torch.tanh(mean)


def gaussian(
    mean: Tensor,
    log_std: Tensor,
    action: Tensor,
) -> tuple[Tensor, Tensor]:
    """Log density ``[...]`` of ``action`` ``[..., A]`` under a diagonal Gaussian, and its entropy ``[...]`` in nats."""
    log_std = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX).expand_as(mean)
    z = (action - mean) * torch.exp(-log_std)
    log_prob = -0.5 * z.square() - log_std - HALF_LOG_2_PI
    entropy = log_std + HALF_LOG_2_PI_E
    return log_prob.sum(-1), entropy.sum(-1)


def gaussian_sample(
    mean: Tensor,
    log_std: Tensor,
    noise: Tensor,
) -> Tensor:
    """``mean + std * noise`` for standard normal ``noise``, all ``[..., A]``."""
    std = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX).exp()
    return mean + std * noise


def clipped_mean(mean: Tensor, log_std: Tensor) -> Tensor:
    """The mean of a Gaussian sample clipped to [-1, 1]: ``E[clip(mean + std * noise, -1, 1)]``, all ``[..., A]``."""
    std = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX).exp()
    low = (-1 - mean) / std
    high = (1 - mean) / std
    below = torch.special.ndtr(low)
    # Not 1 - ndtr(high), which loses its digits where little is above.
    above = torch.special.ndtr(-high)
    inside = 1 - above - below
    slope = _normal_density(low) - _normal_density(high)
    return above - below + mean * inside + std * slope


def _normal_density(z: Tensor) -> Tensor:
    return (-0.5 * z.square()).exp() / math.sqrt(2 * math.pi)


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
        # Not in place: these may be the logits themselves.
        rows = rows - rows.amax(0)
        prob = rows.exp()
        total = prob.sum(0)
        log_probs = rows.sub_(total.log())
        prob = prob.div_(total)
        entropy = -(prob * log_probs).sum(0)
        chosen = action.reshape(1, -1)
        ctx.save_for_backward(prob, log_probs, entropy, chosen)
        ctx.shape = logits.shape
        log_prob = log_probs.gather(0, chosen)
        return log_prob.view(action.shape), entropy.view(action.shape)

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
    # The logarithms of 0 and of 1 would make infinite Gumbel noise.
    inside = noise.clamp(1e-20, 1.0 - 1e-7)
    minus_gumbel = (-inside.log()).log()
    return (logits - minus_gumbel).argmax(-1)
