"""PopArt (van Hasselt et al. 2016; per task, Hessel et al. 2019): value targets on one scale, outputs preserved.

The critic's heads give normalized values ``n``; the value is ``std n + mean``. When the statistics follow the targets,
the heads are rescaled so that no value changes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtrl.agents.networks.heads import Scale
from mtrl.agents.networks.network import Network

PopArt = dict[str, Tensor]


def popart_state(seeds: int, num_tasks: int, device: torch.device) -> PopArt:
    """Mean 0 and variance 1 of every task ``[S, T]``, and the number of updates ``[S]``."""
    mean = torch.zeros(seeds, num_tasks, device=device)
    return {
        "mean": mean,
        "variance": torch.ones_like(mean),
        "updates": torch.zeros(seeds, device=device),
    }


def popart_std(popart: PopArt) -> Tensor:
    """Standard deviation of the targets ``[S, T]``, at least 1e-2."""
    return popart["variance"].clamp_min(1e-4).sqrt()


def denormalize(popart: PopArt, value: Tensor) -> Tensor:
    """Values from normalized values ``[S, T, n]``."""
    return value * popart_std(popart).unsqueeze(-1) + popart["mean"].unsqueeze(-1)


def normalize(popart: PopArt, target: Tensor) -> Tensor:
    """Normalized targets from targets ``[S, T, n]``."""
    return (target - popart["mean"].unsqueeze(-1)) / popart_std(popart).unsqueeze(-1)


@torch.no_grad()
def popart_update(
    popart: PopArt, params: Tensor, network: Network, target: Tensor, step: float
) -> None:
    """Move the statistics toward those of ``target`` and rescale the heads, both in place.

    Args:
        params: the critic's parameters ``[S, P]``, one head a task with one output.
        target: returns ``[S, T, n]``.
        step: share of the new moments, equations 6 and 7 of van Hasselt et al.; while fewer updates than ``1 / step``
            were made, and always if ``step`` is 0, the moments are plain means over all updates instead.
    """
    # The heads are rescaled from the old statistics to the new ones, so the old ones are kept meanwhile.
    old = Scale(popart["mean"].clone(), popart_std(popart))
    popart["updates"] += 1
    share = (1 / popart["updates"]).clamp_min(step).unsqueeze(-1)
    # The variance is kept centred. As second moment less squared mean, in float32, it loses all digits where returns
    # spread by less than a thousandth of their mean.
    mean = target.mean(-1)
    spread = (target - mean.unsqueeze(-1)).square().mean(-1)
    between = (mean - old.mean).square()
    popart["variance"].lerp_(spread, share).add_(share * (1 - share) * between)
    popart["mean"].lerp_(mean, share)
    network.rescale_outputs(params, old, Scale(popart["mean"], popart_std(popart)))
