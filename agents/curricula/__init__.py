"""Curricula: which tasks train next, with what share, and how their parameters are coupled.

Before every round (``round_steps`` env steps of each task) the agent hands the curriculum what is known of each task
(``Statistics``) and gets a ``Plan``. What a share means:

* ``Plan.share`` is a share of the training, as it is where a curriculum draws the next task at random and takes a batch
  of it: task t's losses are multiplied by ``T share_t``, and a task of share 0 has no part in the update. A gradient
  method to which a factor of a loss does not mean a share gets the shares as preferences, or is refused
  (``mtrl.agents.optim.shares``). This holds for actor and critic of MTSAC and MTPPO alike; SAC's temperatures always
  follow their own task. Equal shares are plain training, bit for bit.
* ``Plan.cycle``: shares of successive updates, for MTPPO, whose round is a rollout and so many minibatches.
* ``Plan.active``: the tasks whose environments step, None for all. Only a curriculum that paces makes use of it, and
  only MTPPO offers it; with all others environments step together, and every task collects as many env steps.
* ``Plan.coupled``: CAMRL's multi-task rounds; see ``camrl`` for what they do. Every agent gets as many updates in them
  as in a single-task round.

MTSAC begins a round every ``round_steps`` env steps of each task, once it has begun to learn; for MTPPO each rollout is
a round.

A new curriculum is one frozen dataclass with ``info`` and ``plan``, and a line in ``registry.py``; the property tests
pick it up by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from mtrl.agents.curricula.registry import CURRICULA as CURRICULA
from mtrl.agents.curricula.registry import CurriculumChoice as CurriculumChoice
from mtrl.agents.curricula.registry import make_curriculum as make_curriculum
from mtrl.agents.curricula.registry import parse_curriculum as parse_curriculum

if TYPE_CHECKING:
    from mtrl.agents.curricula.base import CoupledCurriculum as CoupledCurriculum
    from mtrl.agents.curricula.base import Curriculum as Curriculum
    from mtrl.agents.curricula.base import CurriculumInfo as CurriculumInfo
    from mtrl.agents.curricula.base import Geometry as Geometry
    from mtrl.agents.curricula.base import Plan as Plan
    from mtrl.agents.curricula.base import State as State
    from mtrl.agents.curricula.base import Statistics as Statistics
    from mtrl.agents.curricula.base import Tasks as Tasks
    from mtrl.agents.curricula.base import Turn as Turn

_BASE = (
    "CoupledCurriculum",
    "Curriculum",
    "CurriculumInfo",
    "Geometry",
    "Plan",
    "State",
    "Statistics",
    "Tasks",
    "Turn",
)
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"base": _BASE})
