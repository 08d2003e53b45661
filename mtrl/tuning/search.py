"""The search: trials suggested by TPE, pruned at the median of intermediate evaluations, kept in a journal file."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mtrl.errors import InterruptedTraining, TrainingDiverged, WorkbenchError
from mtrl.records.results import read_result, success_mean
from mtrl.settings.config import TrainConfig
from mtrl.trainer import train_together
from mtrl.tuning.spec import Range, TuneSpec

JOURNAL = "journal.log"
STARTUP_TRIALS = 5  # without pruning, so that there is a median


def search(spec: TuneSpec, folder: Path, say: Callable[[str], None] = print) -> Any:
    """Run trials until there are ``spec.trials``. Returns Optuna's study.

    Every trial trains all seeds, in folders ``trial-N/seed-S``. Several processes may search in one folder at a time.

    Raises:
        WorkbenchError: optuna is missing.
        InterruptedTraining: Ctrl-C or SIGTERM; calling again goes on, without the trial that was under way.
    """
    optuna = _optuna()
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    backend = optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL))
    study = optuna.create_study(
        study_name=spec.name,
        storage=optuna.storages.JournalStorage(backend),
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(
            STARTUP_TRIALS, n_warmup_steps=_evaluations(spec) // 3
        ),
    )
    # A worker that joins draws other trials than those that are there.
    seed = spec.sampler_seed + len(study.trials)
    study.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True)
    over = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    while len(study.get_trials(deepcopy=False, states=over)) < spec.trials:
        study.optimize(lambda trial: _objective(trial, spec, folder, optuna), n_trials=1)
        say(describe(study.trials[-1]))
    return study


def _optuna() -> Any:
    import warnings

    try:
        import optuna
    except ImportError:
        raise WorkbenchError(
            "tune: needs the package optuna; install it with: pip install optuna"
        ) from None
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def _evaluations(spec: TuneSpec) -> int:
    config = spec.config({}, spec.seeds[0], None)
    return math.ceil(config.total_env_steps / config.eval.every)


def _objective(trial: Any, spec: TuneSpec, folder: Path, optuna: Any) -> float:
    """Mean success over seeds and tasks at the end; a trial that diverges counts as 0."""
    values = {key: _suggest(trial, key, dimension) for key, dimension in spec.space.items()}
    place = folder / f"trial-{trial.number}"
    configs = [spec.config(values, seed, place / f"seed-{seed}") for seed in spec.seeds]
    watched = Watched(trial, configs)
    try:
        records = train_together(configs, f"mtrl tune {spec.name}", watched.should_stop)
    except TrainingDiverged:
        return 0.0
    except InterruptedTraining:
        if watched.pruned:
            raise optuna.TrialPruned from None
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

    Attributes:
        pruned: whether it was.
    """

    def __init__(self, trial: Any, configs: Sequence[TrainConfig]) -> None:
        self.pruned = False
        self._trial = trial
        self._files = [config.folder / "result.json" for config in configs]
        self._seen: list[int] = []
        self._reported = 0

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
