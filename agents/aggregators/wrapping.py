"""Put wrappers around an aggregator."""

from __future__ import annotations

from mtrl.agents.aggregators.base import Aggregator
from mtrl.agents.aggregators.flat_minima import FlatMinima
from mtrl.agents.aggregators.wrappers import Ema, Every, Policy, Rescale, Ridge, Subset


def wrap(
    aggregator: Aggregator,
    *,
    ridge: float = 0.0,
    subset: int = 0,
    rescale: Policy = "none",
    ema: float = 0.0,
    every: int = 1,
    flat_minima: float = 0.0,
) -> Aggregator:
    """Put the wrappers around ``aggregator``, innermost first in the order of the arguments; defaults add none.

    Args:
        ridge: see ``Ridge``.
        subset: tasks per update, see ``Subset``; 0 for all.
        rescale: see ``Rescale``.
        ema: β of ``Ema``.
        every: k of ``Every``.
        flat_minima: ρ of ``FlatMinima``.

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
    if flat_minima:
        aggregator = FlatMinima(aggregator, flat_minima)
    return aggregator
