"""Put wrappers around an aggregator."""

from __future__ import annotations

from mtrl.agents.aggregators.alternation import Hybrid
from mtrl.agents.aggregators.base import Aggregator
from mtrl.agents.aggregators.flat_minima import FlatMinima
from mtrl.agents.aggregators.look_ahead import LookAhead
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
    look_ahead: float = 0.0,
    look_ahead_eta: float = 0.0,
    look_ahead_inner: float = 0.8,
    free: int = 0,
    free_end: int | None = None,
    free_period: int = 1,
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
        look_ahead, look_ahead_eta, look_ahead_inner: of ``LookAhead``; with neither a length nor a size there is none.
        free, free_end, free_period: of ``Hybrid``; with neither ``free`` nor ``free_end`` nothing alternates.
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
    if look_ahead or look_ahead_eta:
        aggregator = LookAhead(aggregator, look_ahead, look_ahead_eta, look_ahead_inner)
    if free or free_end:
        aggregator = Hybrid(aggregator, free, free_end, free_period)
    if sparse:
        aggregator = Sparse(aggregator, sparse)
    return aggregator
