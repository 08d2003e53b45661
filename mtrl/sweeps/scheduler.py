"""The loop of a sweep: start what is left, collect what is over, try once more what failed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

from mtrl.errors import InterruptedTraining
from mtrl.interrupts import Interrupts
from mtrl.sweeps.local import last_line
from mtrl.sweeps.progress import SweepProgress
from mtrl.sweeps.spec import Unit
from mtrl.sweeps.state import State, collect, in_use, log_path, state_of

POLL_S = 0.2
RETRIES = 1
LOSSES = 20  # a run that is lost this often does not end by bad luck
LOST = -1000
"""Exit status of a run whose place to run went away."""
_BAD_INPUT = 2
_ELSEWHERE = (LOST, 130, 143)  # lost, or told to stop by somebody else, such as a cluster that drains a node


class Executor(Protocol):
    """Where runs happen.

    Attributes:
        jobs: runs at a time.
    """

    jobs: int

    def start(self, unit: Unit) -> Any: ...

    def poll(self, job: Any) -> int | None: ...

    def stop(self, jobs: Sequence[Any]) -> None: ...

    def kill(self, jobs: Sequence[Any]) -> None: ...

    def close(self) -> None: ...


class Scheduler:
    """Brings every run of a sweep to its end.

    Args:
        again: the command that continues the sweep, for the message after an interruption.
    """

    def __init__(self, units: Sequence[Unit], executor: Executor, progress: SweepProgress, again: str) -> None:
        self._executor, self._progress, self._again = executor, progress, again
        self.states: dict[str, State] = {unit.name: state_of(unit) for unit in units}
        self._waiting = [unit for unit in units if not self.states[unit.name].over]
        self._running: dict[str, tuple[Unit, Any]] = {}
        self._failures: dict[str, int] = {}
        self._losses: dict[str, int] = {}

    def run(self) -> dict[str, State]:
        """Run to the end; where each run stands then, by name.

        Raises:
            InterruptedTraining: Ctrl-C or SIGTERM; the runs have saved and stopped.
        """
        self._progress.begin(self.states)
        try:
            with Interrupts() as interrupts:
                while (self._waiting or self._running) and interrupts.signum is None:
                    self._start_what_fits()
                    time.sleep(POLL_S)
                    self._collect_what_is_over()
                    self._progress.show(self.states, {name: self._line(unit) for name, (unit, _) in self._open()})
                if interrupts.signum is not None:
                    self._stop(interrupts.signum)
        finally:
            self._executor.kill([job for _, job in self._running.values()])
            self._progress.end(self.states)
            self._executor.close()
        return self.states

    def _open(self) -> list[tuple[str, tuple[Unit, Any]]]:
        return list(self._running.items())

    def _line(self, unit: Unit) -> str:
        return last_line(log_path(unit))

    def _start_what_fits(self) -> None:
        for unit in list(self._waiting):
            if len(self._running) >= self._executor.jobs:
                return
            if in_use(unit):  # a process that outlived a killed sweep saves and stops by itself
                self._progress.wait(unit.name, str(unit.folder))
                continue
            self._waiting.remove(unit)
            self._progress.started(unit.name, self.states[unit.name], str(log_path(unit)))
            self._running[unit.name] = unit, self._executor.start(unit)

    def _collect_what_is_over(self) -> None:
        for name, (unit, job) in self._open():
            status = self._executor.poll(job)
            if status is None:
                continue
            del self._running[name]
            state = collect(unit)
            if not state.over and self._may_go_on(name, status):
                self.states[name] = state_of(unit)
                self._progress.retry(name, self._line(unit), status)
                self._waiting.insert(0, unit)
                continue
            self.states[name] = state if state.over else collect(unit, gave_up=True)
            self._progress.finished(name, self.states[name], self._line(unit))

    def _may_go_on(self, name: str, status: int) -> bool:
        """Whether a run that ended with this status is started again."""
        if status in _ELSEWHERE:
            self._losses[name] = self._losses.get(name, 0) + 1
            return self._losses[name] <= LOSSES
        self._failures[name] = self._failures.get(name, 0) + 1
        return status not in (0, _BAD_INPUT) and self._failures[name] <= RETRIES

    def _stop(self, signum: int) -> None:
        self._progress.say(f"stopping {len(self._running)} runs, each after its current step")
        self._executor.stop([job for _, job in self._running.values()])
        for name, (unit, _) in self._open():
            state = collect(unit)
            self.states[name] = state if state.over else state_of(unit)
        self._running = {}
        done = sum(state.over for state in self.states.values())
        raise InterruptedTraining(
            f"stopped with {done} of {len(self.states)} runs over; continue with: {self._again}", signum
        )
