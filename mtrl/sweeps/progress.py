"""What a person watching a sweep sees: a line per run and totals in a terminal, only news elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from typing import TextIO

from mtrl.sweeps.state import State

REDRAW_S = 1.0


class SweepProgress:
    """Progress of all runs, on stderr.

    Args:
        stream: where to write; stderr if None.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._drawn = 0
        self._last = 0.0
        self._said: set[str] = set()
        self._began = time.monotonic()

    def begin(self, states: Mapping[str, State]) -> None:
        """Say what there is to do."""
        over = sum(state.over for state in states.values())
        begun = sum(state.status in ("begun", "failed") for state in states.values())
        self.say(f"{len(states)} runs: {over} over, {begun} to continue, {len(states) - over - begun} to start")

    def started(self, name: str, state: State, log: str) -> None:
        """A run starts or goes on."""
        how = f"continues from {state.env_steps:,} env steps" if state.env_steps else "starts"
        self.say(f"{name}: {how}; its output goes to {log}")

    def wait(self, name: str, folder: str) -> None:
        """A run cannot start yet; said once."""
        text = f"{name}: waits for the process that still trains in {folder}"
        if text not in self._said:
            self._said.add(text)
            self.say(text)

    def retry(self, name: str, line: str, status: int) -> None:
        """A run ended before its time and starts once more."""
        cause = f"killed by signal {-status}" if -65 < status < 0 else "lost" if status < 0 else f"exit status {status}"
        self.say(f"{name}: ended early ({cause}{': ' if line else ''}{line}); going on with it once more")

    def finished(self, name: str, state: State, line: str) -> None:
        """A run is over."""
        self.say(f"{name}: {describe(state)}" + (f" ({line})" if state.status in ("failed", "diverged") else ""))

    def show(self, states: Mapping[str, State], running: Mapping[str, str]) -> None:
        """Redraw the terminal: a line per running run with the last it said, then totals."""
        if not self._terminal or time.monotonic() - self._last < REDRAW_S:
            return
        self._last = time.monotonic()
        columns = shutil.get_terminal_size().columns - 1
        lines = [f"{name}: {line.removeprefix(name.rpartition(' seed ')[0]).strip()}" for name, line in running.items()]
        lines.append(self._totals(states, len(running)))
        self._erase()
        self._stream.write("".join(f"{line[:columns]}\n" for line in lines))
        self._stream.flush()
        self._drawn = len(lines)

    def say(self, text: str) -> None:
        """A line that stays."""
        self._erase()
        print(text, file=self._stream, flush=True)

    def end(self, states: Mapping[str, State]) -> None:
        """The last line: totals."""
        self._erase()
        self.say(self._totals(states, 0))

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0

    def _totals(self, states: Mapping[str, State], running: int) -> str:
        counts = {kind: sum(state.status == kind for state in states.values()) for kind in ("diverged", "failed")}
        failed = "".join(f", {count} {kind}" for kind, count in counts.items() if count)
        finished = sum(state.status == "finished" for state in states.values())
        minutes = (time.monotonic() - self._began) / 60
        return f"{finished} of {len(states)} runs finished, {running} running{failed}; {minutes:.0f} min in this sweep"


def describe(state: State) -> str:
    """Where a run stands, in words."""
    success = f", success {state.success:.3f}" if state.success is not None else ""
    return f"{state.status} at {state.env_steps:,} env steps{success}"
