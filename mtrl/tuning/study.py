"""Optuna's study in a journal file, shared by any number of processes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from mtrl.errors import RunFolderError, WorkbenchError
from mtrl.training.run_folder import writing
from mtrl.tuning.claims import claimed, locked
from mtrl.tuning.spec import TuneSpec

JOURNAL = "journal.log"
STARTUP_TRIALS = 5  # without pruning, so that there is a median


class Study:
    """The trials of one search, and who works on them.

    A worker draws a trial, or takes over one whose worker has died, while it holds the folder's lock. It keeps a lock
    file of its trial until the trial is over. So no trial has two workers, and no trial is lost with one.

    Attributes:
        optuna: the package.
        study: Optuna's own.
    """

    def __init__(self, spec: TuneSpec, folder: Path) -> None:
        """Open the search in ``folder``, or begin it.

        Raises:
            RunFolderError: the folder holds another search, or its journal is damaged.
            WorkbenchError: optuna is missing, or the folder cannot be written.
        """
        self.optuna = _optuna()
        self.spec, self.folder = spec, folder
        self._lock = folder / ".lock"
        with locked(self._lock):
            try:
                self.study = self._opened()
            except (
                ValueError,
                KeyError,
            ) as error:  # what Optuna raises for a journal that it cannot read
                raise RunFolderError(
                    f"folder: {folder / JOURNAL} is damaged ({error}); choose another --folder"
                ) from error
            self._check_same()

    def _opened(self) -> Any:
        storages = self.optuna.storages
        path = str(self.folder / JOURNAL)
        lock = storages.journal.JournalFileSymlinkLock(path)
        with writing(self.folder / JOURNAL):
            _drop_unfinished_line(Path(path), lock)
            backend = storages.journal.JournalFileBackend(path, lock_obj=lock)
        storage = storages.JournalStorage(backend)
        names = self.optuna.study.get_all_study_names(storage)
        if names and self.spec.name not in names:
            raise RunFolderError(
                f"folder: {self.folder} holds the search {names[0]}; choose another --folder"
            )
        config = self.spec.config({}, self.spec.seeds[0], None)
        evaluations = math.ceil(config.total_env_steps / config.eval.every)
        return self.optuna.create_study(
            study_name=self.spec.name,
            storage=storage,
            direction="maximize",
            load_if_exists=True,
            sampler=_sampler(self.optuna, self.spec.sampler_seed),
            pruner=self.optuna.pruners.MedianPruner(
                STARTUP_TRIALS, n_warmup_steps=evaluations // 3
            ),
        )

    def _check_same(self) -> None:
        """Refuse to mix trials of different searches; ``trials`` alone may change."""
        spec = self.spec
        told = {
            "suite": spec.suite,
            "method": spec.method,
            "total_env_steps": spec.total_env_steps,
            "seeds": list(spec.seeds),
            "settings": spec.fixed,
            "space": spec.space,
        }
        here = {key: str(value) for key, value in told.items()}
        there = self.study.user_attrs.get("search")
        if there is None:
            self.study.set_user_attr("search", here)
            return
        for key, value in here.items():
            if value != there[key]:
                raise RunFolderError(
                    f"folder: {self.folder} holds another search: {key} is {there[key]} there and {value} here; "
                    "choose another --folder"
                )

    def next_trial(self) -> tuple[Any, int] | None:
        """A trial to work on and the handle of its lock; None while others work on all that are left.

        A trial that nobody works on any more comes first, since its runs continue from their checkpoints.
        """
        states = self.optuna.trial.TrialState
        with locked(self._lock):
            begun = self.study.get_trials(deepcopy=False, states=(states.RUNNING,))
            for trial in begun:
                handle = claimed(self._lock_of(trial.number))
                if handle is not None:
                    return self.optuna.trial.Trial(self.study, trial._trial_id), handle
            if len(begun) + self.num_over() >= self.spec.trials:
                return None
            asked = self.study.ask()
            handle = claimed(self._lock_of(asked.number))
            assert handle is not None
            return asked, handle

    def num_over(self) -> int:
        """Trials that were trained to their end or pruned."""
        states = self.optuna.trial.TrialState
        return len(
            self.study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED))
        )

    @property
    def is_over(self) -> bool:
        """Whether all trials are over."""
        return self.num_over() >= self.spec.trials

    def with_values(self, values: dict[str, Any]) -> Any | None:
        """The first complete trial with these values of the search space, if there is one."""
        complete = (self.optuna.trial.TrialState.COMPLETE,)
        for trial in self.study.get_trials(deepcopy=False, states=complete):
            if trial.params == values:
                return trial
        return None

    def _lock_of(self, number: int) -> Path:
        return self.folder / f"trial-{number}" / ".lock"


def _optuna() -> Any:
    import warnings

    try:
        import optuna
    except ImportError:
        raise WorkbenchError(
            "tune: needs the package optuna; install it with: pip install optuna"
        ) from None
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _drop_unfinished_line(path: Path, lock: Any) -> None:
    """Cut what a power failure left of the journal's last line; Optuna would refuse the journal once it grew."""
    if not path.is_file():
        return
    lock.acquire()
    try:
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("r+b") as file:
                file.truncate(whole)
    finally:
        lock.release()


def _sampler(optuna: Any, seed: int) -> Any:
    """TPE whose random numbers depend on ``seed`` and the trial's number, not on the worker that draws it."""

    class NumberedTPE(optuna.samplers.TPESampler):
        def before_trial(self, study: Any, trial: Any) -> None:
            self.drawing = optuna.samplers.TPESampler(
                seed=(seed * 1_000_003 + trial.number) % 2**32,
                multivariate=True,
                constant_liar=True,
            )

        def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
            return self.drawing.infer_relative_search_space(study, trial)

        def sample_relative(self, study: Any, trial: Any, space: Any) -> Any:
            return self.drawing.sample_relative(study, trial, space)

        def sample_independent(self, study: Any, trial: Any, name: str, space: Any) -> Any:
            return self.drawing.sample_independent(study, trial, name, space)

    return NumberedTPE()
