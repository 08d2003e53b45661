"""The loop of a sweep: start the remaining runs, collect finished ones, retry each failed run once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

from mtrl.errors import InterruptedTraining
from mtrl.sweeps.groups import Group, groups_of
from mtrl.sweeps.local import last_line
from mtrl.sweeps.progress import SweepProgress
from mtrl.sweeps.spec import Spec, Unit
from mtrl.sweeps.state import State, collect, in_use, state_of
from mtrl.training.interrupts import Interrupts

POLL_S = 0.2
RETRIES = 1
LOSSES = 20  # a run that is lost this often has a fault of its own
LOST = -1000
"""Exit status of a run whose worker or node went away."""
_BAD_INPUT = 2
# Lost, or told to stop by somebody else, such as a cluster that drains a node.
_ELSEWHERE = (
    LOST,
    130,
    143,
)


class Executor(Protocol):
    """Where runs happen.

    Attributes:
        jobs: processes at a time.
    """

    jobs: int

    def start(self, group: Group) -> Any: ...

    def poll(self, job: Any) -> int | None: ...

    def stop(self, jobs: Sequence[Any]) -> None: ...

    def kill(self, jobs: Sequence[Any]) -> None: ...

    def close(self) -> None: ...


class Scheduler:
    """Brings every run of a sweep to its end.

    Runs that train together start together, without those that are over. A group that breaks down goes on as single
    runs, so that one which cannot run leaves the others alone.

    Args:
        again: the command that continues the sweep, for the message after an interruption.
    """

    def __init__(
        self, spec: Spec, executor: Executor, progress: SweepProgress, again: str
    ) -> None:
        self._executor, self._progress, self._again = executor, progress, again
        self.states: dict[str, State] = {unit.name: state_of(unit) for unit in spec.units}
        self._waiting = [
            left for group in groups_of(spec) if (left := self._left(group)) is not None
        ]
        self._running: dict[str, tuple[Group, Any]] = {}
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
                    lines = {name: last_line(group.log) for name, (group, _) in self._open()}
                    self._progress.show(self.states, lines, len(self._training()))
                if interrupts.signum is not None:
                    self._stop(interrupts.signum)
        finally:
            self._executor.kill([job for _, job in self._running.values()])
            self._progress.end(self.states)
            self._executor.close()
        return self.states

    def _open(self) -> list[tuple[str, tuple[Group, Any]]]:
        return list(self._running.items())

    def _training(self) -> list[Unit]:
        return [unit for group, _ in self._running.values() for unit in group.units]

    def _left(self, group: Group) -> Group | None:
        """The runs of a group that are not over."""
        return group.only(lambda unit: not self.states[unit.name].over)

    def _start_what_fits(self) -> None:
        for group in list(self._waiting):
            if len(self._running) >= self._executor.jobs:
                return
            # A process that outlived a killed sweep saves and stops by itself.
            taken = group.only(in_use)
            if taken is not None:
                self._progress.wait(group.name, str(taken.units[0].folder))
                continue
            self._waiting.remove(group)
            self._progress.started(
                group.name, [self.states[unit.name] for unit in group.units], str(group.log)
            )
            self._running[group.name] = group, self._executor.start(group)

    def _collect_what_is_over(self) -> None:
        for name, (group, job) in self._open():
            status = self._executor.poll(job)
            if status is None:
                continue
            del self._running[name]
            line = last_line(group.log)
            for unit in group.units:
                self.states[unit.name] = state = collect(unit)
                if state.over:
                    self._progress.finished(unit.name, state, line)
            left = self._left(group)
            if left is None:
                continue
            again = self._again_as(left, status)
            if again:
                self._progress.retry(left.name, line, status, alone=len(again) > 1)
                self._waiting[:0] = again
            for unit in left.units:
                self.states[unit.name] = (
                    state_of(unit) if again else collect(unit, gave_up=True)
                )
                if not again:
                    self._progress.finished(unit.name, self.states[unit.name], line)

    def _again_as(self, group: Group, status: int) -> list[Group]:
        """How a group that ended with this status starts again; not at all if there is nothing left to try."""
        name = group.units[0].name
        if status in _ELSEWHERE:
            self._losses[name] = self._losses.get(name, 0) + 1
            return [group] if self._losses[name] <= LOSSES else []
        if len(group.units) > 1:
            return group.apart()
        self._failures[name] = self._failures.get(name, 0) + 1
        return (
            [group] if status not in (0, _BAD_INPUT) and self._failures[name] <= RETRIES else []
        )

    def _stop(self, signum: int) -> None:
        running = self._training()
        self._progress.say(f"stopping {len(running)} runs, each after its current step")
        self._executor.stop([job for _, job in self._running.values()])
        for unit in running:
            state = collect(unit)
            self.states[unit.name] = state if state.over else state_of(unit)
        self._running = {}
        done = sum(state.over for state in self.states.values())
        raise InterruptedTraining(
            f"stopped with {done} of {len(self.states)} runs over; continue with: {self._again}",
            signum,
        )
