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
* All gradients zero: the mean's weights (or the method's own, where it needs no convention). Zero gradient of one task:
  that task gets no say, except in MGDA, whose answer it is.

A new method is one frozen dataclass with ``info`` and ``_solve``, and a line in ``registry.py``.
"""

from mtrl.agents.aggregators.base import Aggregator, AggregatorInfo, Direction, Inputs, State, Weights
from mtrl.agents.aggregators.flat_minima import FlatMinima, sparse_mask
from mtrl.agents.aggregators.gramian import combine, gramian, linear_gramian, linear_task_gradients
from mtrl.agents.aggregators.registry import AGGREGATORS, make_aggregator, parse_aggregator, wrap
from mtrl.agents.aggregators.wrappers import Ema, Every, Rescale, Ridge, Subset

__all__ = [
    "AGGREGATORS",
    "Aggregator",
    "AggregatorInfo",
    "Direction",
    "Ema",
    "Every",
    "FlatMinima",
    "Inputs",
    "Rescale",
    "Ridge",
    "State",
    "Subset",
    "Weights",
    "combine",
    "gramian",
    "linear_gramian",
    "linear_task_gradients",
    "make_aggregator",
    "parse_aggregator",
    "positive_loss_free",
    "sparse_mask",
    "wrap",
]


def positive_loss_free() -> list[str]:
    """Names of the methods that are defined whatever the sign of the losses."""
    return sorted(name for name, cls in AGGREGATORS.items() if not cls().info.needs_positive_loss)
