"""Gradient aggregation: from per-task gradients to one update, without a solver library and without host syncs.

>>> aggregator = wrap(make_aggregator("nash-mtl"), every=20)
>>> state = aggregator.init(num_tasks)                             # dict of tensors, part of the agent's state_dict
>>> out, state = aggregator.weights(Inputs(gramian=gramian(J), step=gradient_steps), state)
>>> update = combine(J, out.weights)                               # d = Jᵀ w, to be descended

* ``Inputs`` holds everything a method may look at, with any leading dimensions (a seeds axis: ``[s, m, m]`` Gramians
  give ``[s, m]`` weights). Only what ``aggregator.info.needs`` names is read and checked.
* ``aggregator.weights(inputs, state)`` gives ``Weights(weights, residual, converged, finite)``;
  ``aggregator.direction`` gives the update itself from ``Inputs.jacobian`` and works for every method, including those
  with ``info.direction_only``.
* Methods that draw random numbers take them as ``Inputs.noise``: uniform on [0, 1), of shape
  ``[..., *aggregator.noise_shape(m, P)]``.
* ``converged`` is per problem: count and log where it is false. The weights are then the solver's best iterate.
  ``finite`` is false where an input was NaN or infinite; weights are NaN there and the state is left alone. Read both
  at the logging interval; nothing here waits for the device.
* ``info.needs_positive_loss`` marks rules with a logarithm or a ratio of losses. They are undefined for SAC's actor
  loss, which changes sign: refuse them at start; ``positive_loss_free()`` names what works instead.
* ``info.shares`` says what a method makes of a curriculum's shares of the tasks: factors of the losses, preferences
  (``Inputs.preferences``), groups of tasks that take part or do not, or nothing. ``info.warmup`` is the number of
  updates in which it only measures.
* ``wrap(…, weighting="uncertainty")`` puts a rule for the losses in front of a gradient method.
* All gradients zero: the mean's weights (or the method's own, where it needs no convention). Zero gradient of one task:
  that task gets no say, except in MGDA, whose answer it is.

A new method is one frozen dataclass with ``info`` and ``_solve``, and a line in ``registry.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from mtrl.agents.aggregators.registry import AGGREGATORS as AGGREGATORS
from mtrl.agents.aggregators.registry import AggregatorChoice as AggregatorChoice
from mtrl.agents.aggregators.registry import make_aggregator as make_aggregator
from mtrl.agents.aggregators.registry import parse_aggregator as parse_aggregator

if TYPE_CHECKING:
    from mtrl.agents.aggregators.alternation import Hybrid as Hybrid
    from mtrl.agents.aggregators.base import Aggregator as Aggregator
    from mtrl.agents.aggregators.base import AggregatorInfo as AggregatorInfo
    from mtrl.agents.aggregators.base import Direction as Direction
    from mtrl.agents.aggregators.base import Inputs as Inputs
    from mtrl.agents.aggregators.base import State as State
    from mtrl.agents.aggregators.base import Weights as Weights
    from mtrl.agents.aggregators.flat_minima import FlatMinima as FlatMinima
    from mtrl.agents.aggregators.gramians import combine as combine
    from mtrl.agents.aggregators.gramians import gramian as gramian
    from mtrl.agents.aggregators.look_ahead import LookAhead as LookAhead
    from mtrl.agents.aggregators.sparse import Sparse as Sparse
    from mtrl.agents.aggregators.sparse import sparse_mask as sparse_mask
    from mtrl.agents.aggregators.weighting import Weighted as Weighted
    from mtrl.agents.aggregators.wrappers import Ema as Ema
    from mtrl.agents.aggregators.wrappers import Every as Every
    from mtrl.agents.aggregators.wrappers import Rescale as Rescale
    from mtrl.agents.aggregators.wrappers import Ridge as Ridge
    from mtrl.agents.aggregators.wrappers import Subset as Subset
    from mtrl.agents.aggregators.wrapping import wrap as wrap

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "alternation": ("Hybrid",),
        "base": ("Aggregator", "AggregatorInfo", "Direction", "Inputs", "State", "Weights"),
        "flat_minima": ("FlatMinima",),
        "gramians": ("combine", "gramian"),
        "look_ahead": ("LookAhead",),
        "sparse": ("Sparse", "sparse_mask"),
        "weighting": ("Weighted",),
        "wrapping": ("wrap",),
        "wrappers": ("Ema", "Every", "Rescale", "Ridge", "Subset"),
    },
)


def positive_loss_free() -> list[str]:
    """Names of the methods that are defined whatever the sign of the losses."""
    return sorted(
        name for name, cls in AGGREGATORS.items() if not cls().info.needs_positive_loss
    )
