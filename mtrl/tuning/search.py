"""The search: trials suggested by TPE, pruned at the median of intermediate evaluations, kept in a journal file."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mtrl.errors import InterruptedTraining, TrainingDiverged
from mtrl.records.results import read_result, success_mean
from mtrl.settings.config import TrainConfig
from mtrl.trainer import train_together
from mtrl.tuning.claims import release
from mtrl.tuning.spec import Range, TuneSpec
from mtrl.tuning.study import Study

WAIT_S = 1.0  # between two looks at what other workers do


def search(spec: TuneSpec, folder: Path, say: Callable[[str], None] = print) -> Any:
    """Run trials until ``spec.trials`` are over, here or in other workers. Returns Optuna's study.

    Every trial trains all seeds, in folders ``trial-N/seed-S``. Several processes may search in one folder at a time.
    They never work on the same trial. A trial whose process died continues from its checkpoints, in the next process
    that is free.

    Raises:
        WorkbenchError: optuna is missing, or the folder cannot be used (see ``Study``).
        InterruptedTraining: Ctrl-C or SIGTERM; calling again continues, with the trial that was under way.
    """
    shared, waits = Study(spec, folder), False
    while not shared.is_over:
        drawn = shared.next_trial()
        if drawn is not None:
            waits = False
            say(_worked_on(shared, *drawn))
            continue
        if not waits:
            say("waiting for the trials of other workers")
        waits = True
        time.sleep(WAIT_S)
    return shared.study


def _worked_on(shared: Study, trial: Any, handle: int) -> str:
    """Bring a trial to its end, and release its lock. Returns the line that tells of it.

    An interrupted trial stays as it is, for whoever comes next.
    """
    states = shared.optuna.trial.TrialState
    try:
        value = _objective(trial, shared)
        if value is None:
            shared.study.tell(trial, state=states.PRUNED)
        else:
            shared.study.tell(trial, value)
    except InterruptedTraining:
        raise
    except Exception:
        shared.study.tell(trial, state=states.FAIL)
        raise
    finally:
        release(handle)
    return describe(shared.study.trials[trial.number])


def _objective(trial: Any, shared: Study) -> float | None:
    """Mean success over seeds and tasks at the end, None if pruned; a trial that diverges counts as 0."""
    spec = shared.spec
    values = {key: _suggest(trial, key, dimension) for key, dimension in spec.space.items()}
    same = shared.with_values(values)
    if same is not None:
        return float(same.value)
    place = shared.folder / f"trial-{trial.number}"
    configs = [spec.config(values, seed, place / f"seed-{seed}") for seed in spec.seeds]
    told = shared.study.trials[trial.number].intermediate_values
    watched = Watched(trial, configs, len(told))
    try:
        records = train_together(configs, f"mtrl tune {spec.name}", watched.should_stop)
    except TrainingDiverged:
        return 0.0
    except InterruptedTraining:
        if watched.pruned:
            return None
        raise
    last = [success_mean(record["evaluations"][-1]["per_task"]) for record in records]
    return math.fsum(last) / len(last)


def _suggest(trial: Any, key: str, dimension: Range | list[Any]) -> Any:
    if not isinstance(dimension, Range):
        return trial.suggest_categorical(key, dimension)
    if dimension.whole:
        step = 1 if dimension.step is None else int(dimension.step)
        return trial.suggest_int(
            key, dimension.low, dimension.high, step=step, log=dimension.log
        )
    return trial.suggest_float(
        key, dimension.low, dimension.high, step=dimension.step, log=dimension.log
    )


class Watched:
    """Reports a trial's intermediate evaluations, and says when it is to be pruned.

    Args:
        reported: how many evaluations an earlier process has reported.

    Attributes:
        pruned: whether it was.
    """

    def __init__(self, trial: Any, configs: Sequence[TrainConfig], reported: int = 0) -> None:
        self.pruned = False
        self._trial = trial
        self._files = [config.folder / "result.json" for config in configs]
        self._seen: list[int] = []
        self._reported = reported

    def should_stop(self) -> bool:
        """Asked between steps: cheap while no seed has written a new evaluation."""
        written = [file.stat().st_mtime_ns if file.is_file() else 0 for file in self._files]
        if self.pruned or written == self._seen or 0 in written:
            return self.pruned
        self._seen = written
        rates = [
            [success_mean(each["per_task"]) for each in read_result(file)["evaluations"]]
            for file in self._files
        ]
        # All seeds have reached these evaluations.
        for index in range(self._reported, min(map(len, rates))):
            self._trial.report(math.fsum(own[index] for own in rates) / len(rates), index)
            self._reported = index + 1
        self.pruned = bool(self._reported) and self._trial.should_prune()
        return self.pruned


def describe(trial: Any) -> str:
    """A trial in one line."""
    value = "no value" if trial.value is None else f"success {trial.value:.3f}"
    settings = ", ".join(f"{key}={shown(each)}" for key, each in trial.params.items())
    return f"trial {trial.number}: {trial.state.name.lower()}, {value}; {settings}"


def shown(value: Any) -> str:
    """A value as the command line takes it."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
