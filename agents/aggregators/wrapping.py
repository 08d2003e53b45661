"""Put wrappers around an aggregator."""

from __future__ import annotations

from mtrl.agents.aggregators.base import Aggregator
from mtrl.agents.aggregators.flat_minima import FlatMinima
from mtrl.agents.aggregators.registry import make_aggregator
from mtrl.agents.aggregators.sparse import Sparse
from mtrl.agents.aggregators.weighting import Weighted, loss_weightings
from mtrl.agents.aggregators.wrappers import Ema, Every, Policy, Rescale, Ridge, Subset
from mtrl.agents.errors import unknown


def wrap(
    aggregator: Aggregator,
    *,
    ridge: float = 0.0,
    subset: int = 0,
    rescale: Policy = "none",
    ema: float = 0.0,
    every: int = 1,
    weighting: str = "none",
    flat_minima: float = 0.0,
    sparse: int = 0,
) -> Aggregator:
    """Put the wrappers around ``aggregator``, innermost first in the order of the arguments; defaults add none.

    Args:
        ridge: see ``Ridge``.
        subset: tasks per update, see ``Subset``; 0 for all.
        rescale: see ``Rescale``.
        ema: β of ``Ema``.
        every: k of ``Every``.
        weighting: the name of a loss weighting with its published defaults, see ``Weighted``; ``none`` for none.
        flat_minima: ρ of ``FlatMinima``.
        sparse: K of ``Sparse``; 0 for no mask.

    Raises:
        AgentError: a value out of range, or a wrapper that cannot go around this method.
    """
    if ridge:
        aggregator = Ridge(aggregator, ridge)
    if subset:
        aggregator = Subset(aggregator, subset)
    if rescale != "none":
        aggregator = Rescale(aggregator, rescale)
    if ema:
        aggregator = Ema(aggregator, ema)
    if every != 1:
        aggregator = Every(aggregator, every)
    if weighting != "none":
        known = loss_weightings()
        if weighting not in known:
            raise unknown("aggregator: weighting", weighting, known)
        aggregator = Weighted(aggregator, make_aggregator(weighting))
    if flat_minima:
        aggregator = FlatMinima(aggregator, flat_minima)
    if sparse:
        aggregator = Sparse(aggregator, sparse)
    return aggregator
