"""Action distributions as functions of network outputs."""

from __future__ import annotations

import math

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
