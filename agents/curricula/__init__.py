"""Curricula: which tasks train next, with what share, and how their parameters are coupled.

Before every round (``round_steps`` env steps of each task) the agent hands the curriculum what is known of each task
(``Statistics``) and gets a ``Plan``. What a share means:

* ``Plan.share``: share of the gradient. Task t's losses are multiplied by ``T share_t`` before the aggregator reduces
  them (MTSAC: critic, actor; MTPPO: actor, critic). Equal shares are plain training, bit for bit.
* ``Plan.coupled``: CAMRL's multi-task rounds; see ``camrl`` for what they do.

A new curriculum is one frozen dataclass with ``info`` and ``plan``, and a line in ``registry.py``; the property tests
pick it up by name.
"""

from agents.curricula.base import (
    CoupledCurriculum,
    Curriculum,
    CurriculumInfo,
    Geometry,
    Plan,
    State,
    Statistics,
    Tasks,
    Turn,
)
from agents.curricula.registry import CURRICULA, make_curriculum, parse_curriculum

__all__ = [
    "CURRICULA",
    "CoupledCurriculum",
    "Curriculum",
    "CurriculumInfo",
    "Geometry",
    "Plan",
    "State",
    "Statistics",
    "Tasks",
    "Turn",
    "make_curriculum",
    "parse_curriculum",
]
