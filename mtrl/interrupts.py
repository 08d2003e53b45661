"""Ctrl-C and SIGTERM: the first asks for a clean stop, the second stops at once."""

from __future__ import annotations

import signal
import sys
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupts:
    """While entered, notes the first SIGINT or SIGTERM in ``signum`` and restores the default behavior for a second."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for wanted in (signal.SIGINT, signal.SIGTERM):
            self._previous[wanted] = signal.signal(wanted, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for wanted, handler in self._previous.items():
            signal.signal(wanted, handler)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        print("\nfinishing the current step, then stopping; once more stops at once", file=sys.stderr, flush=True)
