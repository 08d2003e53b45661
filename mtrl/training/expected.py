"""How long the rest of a training will take, from its own first seconds."""

from __future__ import annotations

MEASURED_S = 10.0
"""Seconds of training that the estimate is made from."""
UNKNOWN = f"said after the first {MEASURED_S:.0f} seconds of updates"


class ExpectedTime:
    """Measures how fast a training goes, and says once how long it will take.

    Steps before the first update do not count, because an agent that only collects is many times faster than one that
    trains. The first call with an update does not count either, because it may compile.

    Args:
        total: progress to reach, summed over the runs of the process.
        unit: of progress, in words.
    """

    def __init__(self, total: int, unit: str) -> None:
        self._total, self._unit = total, unit
        self._seconds, self._steps = 0.0, 0
        self._warm = False
        self._over = False

    def add(self, seconds: float, steps: int, updated: bool, progress: int) -> str | None:
        """Count one call of ``advance``. Returns the sentence once there is enough to say it, else None.

        Args:
            seconds: that the call took.
            steps: by which progress grew.
            updated: whether the agent has done updates so far.
            progress: reached so far.
        """
        if self._over or not updated:
            return None
        if not self._warm:
            self._warm = True
            return None
        self._seconds, self._steps = self._seconds + seconds, self._steps + steps
        if self._seconds < MEASURED_S:
            return None
        self._over = True
        if self._steps == 0 or progress >= self._total:
            return None
        return (
            f"{time_left(self._total - progress, self._steps, self._seconds, self._unit)}, "
            f"measured over {self._seconds:.0f} s; evaluations come on top"
        )


def time_left(left: int, steps: int, seconds: float, unit: str) -> str:
    """How long ``left`` more steps take if ``steps`` took ``seconds``, and the speed."""
    rate = steps / seconds
    return f"about {duration(left / rate)} left at {rate:,.0f} {unit}/s"


def duration(seconds: float) -> str:
    """``seconds`` as a person says it: 40 s, 12 min, 1 h 50 min, 31 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours >= 10:
        return f"{round(minutes / 60)} h"
    return f"{hours} h {rest} min" if rest else f"{hours} h"
