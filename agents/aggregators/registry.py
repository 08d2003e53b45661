"""Aggregators by name."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable
from typing import Any

from mtrl.agents.aggregators.aligned import EGA, AlignedMTL
from mtrl.agents.aggregators.base import Aggregator
from mtrl.agents.aggregators.cagrad import CAGrad, CAGradFast
from mtrl.agents.aggregators.equal import IMTLG, ConFIG
from mtrl.agents.aggregators.fairness import FairGrad, NashMTL
from mtrl.agents.aggregators.fixed import Mean, RandomWeights, Sum
from mtrl.agents.aggregators.flat_minima import FlatMinima
from mtrl.agents.aggregators.gcond import GCond
from mtrl.agents.aggregators.igb import IGBv2
from mtrl.agents.aggregators.learned import GradNorm, SDMGrad
from mtrl.agents.aggregators.loss_rate import DWA, FAMO, LBTW, IGBv1, SuccessFocal
from mtrl.agents.aggregators.loss_scale import GLS, IMTLL, SmoothTchebycheff, UncertaintyWeighting
from mtrl.agents.aggregators.projection import MGDA, DualProj, UPGrad
from mtrl.agents.aggregators.sign import SAMGS, GradDrop
from mtrl.agents.aggregators.surgery import GradVac, PCGrad
from mtrl.agents.aggregators.tracked import DBMTL, ExcessMTL, MoCo
from mtrl.agents.aggregators.wrappers import Ema, Every, Policy, Rescale, Ridge, Subset
from mtrl.agents.base import AgentError

_CLASSES: tuple[type[Aggregator], ...] = (
    *(Mean, Sum, RandomWeights, PCGrad, GradVac, CAGrad, CAGradFast, MGDA, IMTLG, NashMTL, FairGrad, AlignedMTL),
    *(EGA, UPGrad, DualProj, ConFIG, GradNorm, SDMGrad, GCond, FAMO, UncertaintyWeighting, IMTLL, DWA, GLS),
    *(SmoothTchebycheff, IGBv1, IGBv2, LBTW, SuccessFocal, GradDrop, SAMGS, MoCo, DBMTL, ExcessMTL),
)
AGGREGATORS: dict[str, type[Aggregator]] = {cls().info.name: cls for cls in _CLASSES}


def make_aggregator(name: str, **params: object) -> Aggregator:
    """The aggregator ``name`` with its published defaults, except for ``params``.

    Raises:
        AgentError: no such name or parameter (the nearest one is named), or a value that is not allowed.
    """
    if name not in AGGREGATORS:
        raise AgentError(f"aggregator={name!r} does not exist{_nearest(name, AGGREGATORS)}")
    cls = AGGREGATORS[name]
    fields = [field.name for field in dataclasses.fields(cls)]
    for key in params:
        if key not in fields:
            raise AgentError(f"aggregator {name!r} has no parameter {key!r}{_nearest(key, fields)}")
    return cls(**params)


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


WRAPPERS = ("ridge", "subset", "rescale", "ema", "every", "flat_minima")


def parse_aggregator(text: str) -> Aggregator:
    """The aggregator that ``name`` or ``name:key=value,...`` describes; keys are its parameters and ``wrap``'s.

    >>> parse_aggregator("cagrad:c=0.9,every=4").info.name
    'every(cagrad)'

    Raises:
        AgentError: an unknown name or key, or a value that is not allowed.
    """
    name, _, rest = text.partition(":")
    params: dict[str, Any] = {}
    for item in filter(None, rest.split(",")):
        key, separator, value = item.partition("=")
        if not separator:
            raise AgentError(f"aggregator={text!r}: {item!r} is not of the form key=value")
        params[key] = _literal(value)
    outer = {key: params.pop(key) for key in WRAPPERS if key in params}
    return wrap(make_aggregator(name, **params), **outer)


def _literal(text: str) -> int | float | bool | str:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _nearest(word: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; allowed: {', '.join(names)}" if names else "; it has none"
