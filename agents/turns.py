"""An agent's ``advance`` in pieces, so that the updates of several seeds can be one call.

A turn yields a lesson wherever an update is due and is sent the outcome. Whoever drives it decides whether the lesson
is learned alone or as one call with those of other seeds (``mtrl.agents.together``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Hashable, Sequence
from typing import Any, Self

from mtrl.agents.members import Networks


class Lesson(ABC):
    """One update that is due. ``state`` is what it changes, in place."""

    state: Networks

    @property
    @abstractmethod
    def key(self) -> Hashable | None:
        """Equal for lessons of equal agents that can be one call; None if this one can only be learned alone."""

    @abstractmethod
    def alone(self) -> Any:
        """Learn it; the outcome."""

    @classmethod
    @abstractmethod
    def stacked(cls, lessons: Sequence[Self], state: Networks) -> list[Any]:
        """Learn several, whose states ``state`` holds along its first axis, in one call; the outcome of each."""


Turn = Generator[Lesson, Any, None]


def resume(turn: Turn, outcome: object) -> Lesson | None:
    """The next lesson of a turn, given the outcome of the last (None at first); None at its end."""
    try:
        return turn.send(outcome)
    except StopIteration:
        return None


def finish_alone(turn: Turn) -> None:
    """Run one agent's turn to its end."""
    lesson = resume(turn, None)
    while lesson is not None:
        lesson = resume(turn, lesson.alone())
