"""How a curriculum's shares and a user's preferences of the tasks reach a gradient method.

Multiplying a task's loss by its share is right for methods whose update scales with each loss. Others undo the factor,
as Nash-MTL does, or turn it round, as MGDA does: it gives shorter gradients more weight. Those that can express
preferences get the shares as such. The rest go with shares that only say which tasks train, or with none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import torch
from torch import Tensor

from mtrl.agents.aggregators.base import Aggregator, parse_preference
from mtrl.agents.aggregators.registry import AGGREGATORS
from mtrl.agents.curricula.base import CurriculumInfo
from mtrl.agents.errors import AgentError, unknown
from mtrl.agents.networks.bodies.body import Body

ACCEPTED = {
    "equal": ("losses", "preferences", "groups", "none"),
    "groups": ("losses", "preferences", "groups"),
    "graded": ("losses", "preferences"),
}
"""Methods (``AggregatorInfo.shares``) that go with the shares of a curriculum (``CurriculumInfo.shares``)."""


def refuse_shares(curriculum: CurriculumInfo, aggregators: Iterable[Aggregator]) -> None:
    """Raise AgentError for a gradient method that can do nothing right with the curriculum's shares."""
    _refuse(curriculum.shares, f"curriculum {curriculum.name!r}", aggregators)


def refuse_weights(setting: str, aggregators: Iterable[Aggregator]) -> None:
    """Raise AgentError for a gradient method that can do nothing right with the task weights of a setting."""
    _refuse("graded", setting, aggregators)


def _refuse(shares: str, source: str, aggregators: Iterable[Aggregator]) -> None:
    accepted = ACCEPTED[shares]
    for aggregator in aggregators:
        info = aggregator.info
        if info.shares in accepted:
            continue
        why = "needs every task in every update"
        if info.shares == "groups":
            why = "has no way to prefer tasks"
        fitting = _accepting(shares)
        raise AgentError(
            f"aggregator: {info.name!r} {why}, and {source} gives tasks different shares; "
            f"use one of {', '.join(fitting)}"
        )


def refuse_masks(networks: Iterable[Body], aggregators: Iterable[Aggregator]) -> None:
    """Raise AgentError for a gradient method that needs every task, where a network leaves some out of updates."""
    if not any(body.masks_tasks for body in networks):
        return
    for aggregator in aggregators:
        if aggregator.info.shares not in ACCEPTED["groups"]:
            raise AgentError(
                f"aggregator: {aggregator.info.name!r} needs every task in every update, and the network leaves out "
                f"tasks whose loss explodes; use one of {', '.join(_accepting('groups'))}"
            )


def _accepting(shares: str) -> list[str]:
    """The methods that go with shares of a kind."""
    return sorted(
        name for name, cls in AGGREGATORS.items() if cls().info.shares in ACCEPTED[shares]
    )


def task_preferences(
    aggregator: Aggregator, task_names: Sequence[str]
) -> tuple[float, ...] | None:
    """The preferences that the aggregator's settings name, one a task, with sum 1; None if they name none.

    Raises:
        AgentError: a task that the suite lacks, with the nearest right one.
    """
    named = parse_preference(aggregator.preference_text())
    if not named:
        return None
    for name in named:
        if name not in task_names:
            raise unknown("aggregator: preference", name, task_names)
    numbers = [named.get(name, 1.0) for name in task_names]
    total = sum(numbers)
    return tuple(number / total for number in numbers)


def preferences_from(
    own: tuple[float, ...] | None, weights: Tensor | None, like: Tensor
) -> Tensor:
    """A user's preferences times a curriculum's factors ``[S, T]``, with sum 1 over tasks; ``like`` is ``[S, T]``."""
    product = torch.ones_like(like) if weights is None else weights.to(like.dtype)
    if own is not None:
        product = product * _on_device(own, like.dtype, like.device)
    return product / product.sum(-1, keepdim=True)


@cache
def _on_device(own: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Preferences as a tensor, copied to a device once and not in every update."""
    return torch.tensor(own, dtype=dtype).to(device)


def undo(weights: Tensor) -> Tensor:
    """Factors that take gradients of losses times ``weights`` ``[S, T]`` back to those of plain losses; 0 stays 0."""
    trains = weights > 0
    return torch.where(trains, 1 / torch.where(trains, weights, 1.0), 0.0)
