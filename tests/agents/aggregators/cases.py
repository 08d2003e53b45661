"""Random Jacobians of every awkward kind, and inputs that satisfy every method."""

import numpy as np
import torch
from torch import Tensor

from mtrl.agents.aggregators import Aggregator, Inputs, gramian

KINDS = (
    "full",
    "conflicting",
    "aligned",
    "deficient",
    "zero-row",
    "duplicate",
    "uneven",
    "flat",
)


def jacobian(
    seed: int, m: int, params: int, kind: str = "full", dtype: torch.dtype = torch.float64
) -> Tensor:
    """``[m, params]``; ``kind`` says what is wrong with it."""
    rng = np.random.default_rng([seed, m, params])
    rows = rng.standard_normal((m, params))
    if kind == "conflicting":
        rows -= 0.8 * rows.mean(0)
    elif kind == "aligned":
        rows = 0.3 * rows + rng.standard_normal(params)
    elif kind == "deficient":
        rank = max(1, min(m, params) - 1 - seed % 3)
        rows = rng.standard_normal((m, rank)) @ rng.standard_normal((rank, params))
    elif kind == "zero-row":
        rows[seed % m] = 0
    elif kind == "duplicate":
        rows[-1] = rows[0]
    elif kind == "uneven":
        rows *= 10.0 ** rng.uniform(-2, 2, (m, 1))
    elif kind == "flat":
        rows = 0.1 * rows + np.linspace(-1, 1, m)[:, None] * rng.standard_normal(params)
    return torch.as_tensor(rows, dtype=dtype)


def batch_of(seed: int, batch: int, m: int, params: int, kind: str = "full") -> Tensor:
    """``[batch, m, params]`` of different Jacobians."""
    return torch.stack([jacobian(seed + i, m, params, kind) for i in range(batch)])


def inputs_for(aggregator: Aggregator, rows: Tensor, seed: int = 0) -> Inputs:
    """Everything the method may need, for ``[..., m, P]`` rows; noise and losses depend on ``seed`` only."""
    generator = torch.Generator().manual_seed(seed)
    m, params = rows.shape[-2:]
    batch = rows.shape[:-2]
    shape = aggregator.noise_shape(m, params)
    other = rows + 0.1 * torch.rand(rows.shape, generator=generator).to(rows)
    return Inputs(
        gramian=gramian(rows),
        losses=(torch.rand((*batch, m), generator=generator, dtype=torch.float64) + 0.5).to(
            rows.dtype
        ),
        success=torch.rand((*batch, m), generator=generator, dtype=torch.float64).to(
            rows.dtype
        ),
        jacobian=rows,
        cross_gramian=rows @ other.mT,
        perturbed_jacobian=other,
        noise=None
        if shape is None
        else torch.rand((*batch, *shape), generator=generator, dtype=torch.float64),
    )


def item(inputs: Inputs, index: int) -> Inputs:
    """One problem of a batch."""
    tensors = {k: v[index] for k, v in vars(inputs).items() if isinstance(v, Tensor)}
    return Inputs(**tensors, step=inputs.step)
