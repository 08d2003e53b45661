"""Seconds of a process, shared out among the runs that train in it."""

from __future__ import annotations

import time


class Clock:
    """Counts each second of the process once, in equal parts for the runs that are not over.

    So the hours of seeds that train together add up to the hours of their process.
    """

    def __init__(self, runs: int) -> None:
        self._runs = runs
        self._shared = 0.0
        self._at = time.monotonic()

    def seconds(self) -> float:
        """One run's part so far."""
        now = time.monotonic()
        self._shared += (now - self._at) / max(self._runs, 1)
        self._at = now
        return self._shared

    def leave(self) -> None:
        """A run is over; from now on the others have larger parts."""
        self.seconds()
        self._runs -= 1
