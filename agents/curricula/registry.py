"""Curricula by name."""

from __future__ import annotations

import dataclasses
from typing import Any

from mtrl.agents.curricula.base import Curriculum
from mtrl.agents.curricula.camrl import CAMRL, CAMRLShared
from mtrl.agents.curricula.drats import DRATS
from mtrl.agents.curricula.focal import SuccessFocal
from mtrl.agents.curricula.grouping import TaskGrouping
from mtrl.agents.curricula.mrcl import MRCL
from mtrl.agents.curricula.pacing import SuccessPacing
from mtrl.agents.curricula.progress import CompetenceProgress, LearningProgress
from mtrl.agents.curricula.son_goku import SonGoku
from mtrl.agents.curricula.uniform import Uniform
from mtrl.agents.errors import AgentError, unknown

_CLASSES: tuple[type[Curriculum], ...] = (
    *(Uniform, CAMRL, CAMRLShared, MRCL, SuccessFocal, LearningProgress, CompetenceProgress, DRATS, SonGoku),
    *(TaskGrouping, SuccessPacing),
)
CURRICULA: dict[str, type[Curriculum]] = {cls().info.name: cls for cls in _CLASSES}


def make_curriculum(name: str, **params: object) -> Curriculum:
    """The curriculum ``name`` with its defaults, except for ``params``.

    Raises:
        AgentError: no such name or parameter (the nearest one is named), or a value that is not allowed.
    """
    if name not in CURRICULA:
        raise unknown("curriculum", name, CURRICULA)
    cls = CURRICULA[name]
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key, value in params.items():
        if key not in fields:
            raise unknown(f"parameter of curriculum {name!r}", key, fields)
        if fields[key].type == "float" and isinstance(value, int) and not isinstance(value, bool):
            params[key] = float(value)
    return cls(**params)  # type: ignore[arg-type]


def parse_curriculum(text: str) -> Curriculum:
    """The curriculum that ``name`` or ``name:key=value,...`` describes.

    >>> parse_curriculum("camrl:lambda3=0,warmup=5").info.name
    'camrl'

    Raises:
        AgentError: an unknown name or key, or a value that is not allowed.
    """
    name, _, rest = text.partition(":")
    params: dict[str, Any] = {}
    for item in filter(None, rest.split(",")):
        key, separator, value = item.partition("=")
        if not separator:
            raise AgentError(f"curriculum: {item!r} in {text!r} is not of the form key=value")
        params[key] = _literal(value)
    return make_curriculum(name, **params)


def _literal(text: str) -> int | float | bool | str:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
