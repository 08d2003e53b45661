"""The display of a sweep: a line per run and totals in a terminal, elsewhere a line per event."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
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
        """Print the numbers of runs to start and to continue."""
        over = sum(state.over for state in states.values())
        begun = sum(state.status in ("begun", "failed") for state in states.values())
        self.say(
            f"{len(states)} runs: {over} over, {begun} to continue, {len(states) - over - begun} to start"
        )

    def started(self, name: str, states: Sequence[State], log: str) -> None:
        """Runs that share a process start or go on."""
        steps = [f"{done:,}" for done in sorted({state.env_steps for state in states})]
        how = "starts" if steps == ["0"] else f"continues from {' and '.join(steps)} env steps"
        self.say(f"{name}: {how}; its output goes to {log}")

    def wait(self, name: str, folder: str) -> None:
        """A run cannot start yet; said once."""
        text = f"{name}: waits for the process that still trains in {folder}"
        if text not in self._said:
            self._said.add(text)
            self.say(text)

    def retry(self, name: str, line: str, status: int, alone: bool = False) -> None:
        """Runs ended before their time and start once more, each ``alone`` or as before."""
        if status >= 0:
            cause = f"exit status {status}"
        elif status > -65:
            cause = f"killed by signal {-status}"
        else:
            cause = "lost"
        how = "going on with each seed alone" if alone else "going on with it once more"
        self.say(f"{name}: ended early ({cause}{': ' if line else ''}{line}); {how}")

    def finished(self, name: str, state: State, line: str) -> None:
        """A run is over."""
        self.say(
            f"{name}: {describe(state)}"
            + (f" ({line})" if state.status in ("failed", "diverged") else "")
        )

    def show(self, states: Mapping[str, State], running: Mapping[str, str], count: int) -> None:
        """Redraw the terminal: a line per process with its last output, then totals; ``count`` runs are running."""
        if not self._terminal or time.monotonic() - self._last < REDRAW_S:
            return
        self._last = time.monotonic()
        columns = shutil.get_terminal_size().columns - 1
        lines = [
            f"{name}: {line.removeprefix(name.rpartition(' seed')[0]).strip()}"
            for name, line in running.items()
        ]
        lines.append(self._totals(states, count))
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
        counts = {
            kind: sum(state.status == kind for state in states.values())
            for kind in ("diverged", "failed")
        }
        failed = "".join(f", {count} {kind}" for kind, count in counts.items() if count)
        finished = sum(state.status == "finished" for state in states.values())
        minutes = (time.monotonic() - self._began) / 60
        return f"{finished} of {len(states)} runs finished, {running} running{failed}; {minutes:.0f} min in this sweep"


def describe(state: State) -> str:
    """Where a run stands, in words."""
    success = f", success {state.success:.3f}" if state.success is not None else ""
    return f"{state.status} at {state.env_steps:,} env steps{success}"
