"""Curricula by name. A class, and with it torch, is imported when its settings are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator

from mtrl.agents.settings import Choice, Entry, Registry

if TYPE_CHECKING:
    from mtrl.agents.curricula.base import Curriculum


def _entry(place: str, summary: str) -> Entry:
    """A class of this package, as ``module:Class``."""
    return Entry(f"mtrl.agents.curricula.{place}", summary)


CURRICULA: Registry[Curriculum] = Registry(
    "curriculum",
    {
        "uniform": _entry(
            "uniform:Uniform", "Every task trains all the time, with equal shares."
        ),
        "camrl": Entry(
            "mtrl.agents.curricula.camrl.curriculum:CAMRL",
            "One agent per task, coupled by a learned transfer matrix (Huang et al. 2023).",
        ),
        "camrl-shared": Entry(
            "mtrl.agents.curricula.camrl.curriculum:CAMRLShared",
            "CAMRL on one shared trunk; the matrix couples the heads (Huang et al. 2023).",
        ),
        "mrcl": Entry(
            "mtrl.agents.curricula.mrcl:MRCL",
            "Attention to tasks whose foundations are mastered (Willems et al. 2020).",
        ),
        "success-focal": _entry(
            "focal:SuccessFocal", "More weight on tasks that succeed less."
        ),
        "learning-progress": Entry(
            "mtrl.agents.curricula.progress:LearningProgress",
            "More weight on tasks whose returns move (Matiisen et al. 2019).",
        ),
        "competence-progress": Entry(
            "mtrl.agents.curricula.progress:CompetenceProgress",
            "More weight on tasks whose success moves (Baranes & Oudeyer 2013).",
        ),
        "drats": Entry(
            "mtrl.agents.curricula.drats:DRATS",
            "Exponentiated shares of the tasks' gaps to their best returns.",
        ),
        "son-goku": Entry(
            "mtrl.agents.curricula.son_goku:SonGoku",
            "Colors the graph of interfering tasks and trains one color a round.",
        ),
        "task-grouping": Entry(
            "mtrl.agents.curricula.grouping:TaskGrouping",
            "Trains groups of tasks with alike training dynamics in turn.",
        ),
        "success-pacing": Entry(
            "mtrl.agents.curricula.pacing:SuccessPacing",
            "Tasks that succeed collect data less often; for MTPPO.",
        ),
    },
)
CurriculumChoice = Annotated[Choice, BeforeValidator(CURRICULA.choice), CURRICULA]


def make_curriculum(name: str, **params: object) -> Curriculum:
    """The curriculum ``name`` with its defaults, except for ``params``.

    Raises:
        AgentError: no such name or parameter (the nearest one is named), or a value that is not allowed.
    """
    return CURRICULA.build(name, params)


def parse_curriculum(text: str) -> Curriculum:
    """The curriculum that ``name`` or ``name:key=value,...`` describes.

    >>> parse_curriculum("camrl:lambda3=0,warmup=5").info.name
    'camrl'

    Raises:
        AgentError: an unknown name or key, or a value that is not allowed.
    """
    return CURRICULA.make(text)
