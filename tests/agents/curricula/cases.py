"""Tasks and statistics for the tests of curricula."""

from __future__ import annotations

import torch
from torch import Tensor

from mtrl.agents.curricula import Statistics, Tasks

NAMES = ("reach", "push", "pick", "open")


def tasks(edges: tuple[tuple[int, int], ...] = (), count: int = 4) -> Tasks:
    builds_on = torch.zeros(count, count, dtype=torch.bool)
    for task, other in edges:
        builds_on[task, other] = True
    return Tasks(NAMES[:count], builds_on)


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def statistics(
    success: Tensor, score: Tensor | None = None, gramian: Tensor | None = None
) -> Statistics:
    score = 10 * success if score is None else score
    return Statistics(success, score, torch.full_like(success, 5), 1 - success / 2, gramian)


def random_statistics(seed: int, count: int = 4) -> Statistics:
    generator = torch.Generator().manual_seed(seed)
    success, score = torch.rand(2, count, generator=generator, dtype=torch.float64)
    rows = torch.randn(count, 6, generator=generator, dtype=torch.float64)
    return statistics(success, 100 * score - 50, rows @ rows.T)
