"""A report that is written as it grows, and sections that neither outlast their minutes nor end the others."""

from __future__ import annotations

import json
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

Figures = dict[str, Any]


class OutOfTime(BaseException):
    """A section's minutes are over. No ``Exception``, which libraries catch."""


class Report:
    """Figures by section, in a JSON file that is whole at any moment; goes on with those of the file if there is one.

    Args:
        seconds: for all sections together.

    Attributes:
        end: when they are over, by ``time.monotonic``, which processes of one machine share.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self._path = path
        self.end = time.monotonic() + seconds
        self.figures: Figures = {"status": "running", "sections": {}}
        if path.exists():
            self.read()
        self.save()

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.end - time.monotonic()

    def read(self) -> None:
        """Take up what another process wrote."""
        self.figures = json.loads(self._path.read_text())

    def save(self) -> None:
        """Write the figures, replacing the file at once."""
        written = self._path.with_name(f"{self._path.name}.part")
        written.write_text(json.dumps(self.figures, indent=2) + "\n")
        written.replace(self._path)

    def run(self, name: str, section: Callable[[Section], None], share: float) -> None:
        """Run a section with ``share`` of the time that is left; what fails is recorded, and the report goes on."""
        seconds = max(1.0, share * self.left)
        # Whoever watches this process knows by this when the section should have ended.
        figures: Figures = {"may_take_seconds": round(seconds, 1)}
        self.figures["sections"][name] = figures
        self.save()
        begun = time.monotonic()
        current = Section(figures, self.save, begun + seconds)
        print(f"{name}: {seconds:.0f} s", flush=True)
        try:
            with Alarm(seconds):
                section(current)
        except OutOfTime:
            figures["cut_off"] = f"after {seconds:.0f} s, in {current.under_way!r}"
        # A section may meet any error of a machine that nobody has seen, and the others still have to be measured.
        except Exception as error:
            figures["error"] = f"{type(error).__name__}: {error}"
            figures["traceback"] = traceback.format_exc().splitlines()[-8:]
        figures["seconds"] = round(time.monotonic() - begun, 2)
        self.save()

    @property
    def under_way(self) -> str | None:
        """The section that has begun and not ended."""
        for name, found in self.figures["sections"].items():
            if "seconds" not in found:
                return str(name)
        return None

    def end_section(self, why: str) -> None:
        """Note why the section under way ended without a word of its own."""
        name = self.under_way
        if name is not None:
            self.figures["sections"][name] |= {"error": why, "seconds": None}
            self.save()

    def finish(self) -> None:
        self.figures["status"] = "finished"
        self.save()


class Section:
    """What a section writes into, and how long it may.

    Attributes:
        under_way: the figure that is being measured.
    """

    def __init__(self, figures: Figures, save: Callable[[], None], end: float) -> None:
        self.figures, self._save, self._end = figures, save, end
        self.under_way = ""

    @property
    def left(self) -> float:
        """Seconds left."""
        return self._end - time.monotonic()

    def note(self, key: str, value: Any) -> None:
        """Add a figure and save."""
        self.figures[key] = value
        self._save()

    def attempt(self, key: str, measure: Callable[[], Any]) -> Any:
        """Note what ``measure`` returns, or the error that it ends with; the section goes on. None on an error."""
        self.under_way = key
        try:
            value = measure()
        except Exception as error:
            self.note(key, {"error": f"{type(error).__name__}: {error}"[:500]})
            return None
        self.note(key, value)
        return value


class Alarm:
    """Raises ``OutOfTime`` in the main thread after some seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)

    @staticmethod
    def _ring(signum: int, frame: FrameType | None) -> None:
        raise OutOfTime
