"""Ctrl-C, SIGTERM and a terminal that closes: the first asks for a clean stop, the second stops at once."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, Self

_DEFAULTS: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}


class Interrupts:
    """While entered, notes the first SIGINT, SIGTERM or SIGHUP in ``signum``; a second one has its default effect.

    A SIGHUP that the process was told to ignore, as by ``nohup``, stays ignored.

    Python handles signals in the main thread alone. In another thread nothing is noted and no handler touched: there
    signals belong to the program that started the thread.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        for wanted in _DEFAULTS:
            handler = signal.getsignal(wanted)
            # None stands for a handler that C code installed: Python could not put it back.
            if handler is not None and (wanted, handler) != (signal.SIGHUP, signal.SIG_IGN):
                self._previous[wanted] = signal.signal(wanted, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for wanted, handler in self._previous.items():
            signal.signal(wanted, handler)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        for wanted in self._previous:
            signal.signal(wanted, _DEFAULTS[wanted])
        print(
            "\nfinishing the current step, then stopping; once more stops at once",
            file=sys.stderr,
            flush=True,
        )
