"""Train one run, or the seeds of one method in lockstep; continue interrupted ones."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Sequence

import torch

from mtrl.agents import DivergedError
from mtrl.agents.agent import auto_remark, resolve_device
from mtrl.agents.seeds import Failure, Seeds
from mtrl.envs import SuiteError
from mtrl.errors import (
    CheckpointError,
    ConfigError,
    InterruptedTraining,
    RunFolderError,
    TrainingDiverged,
    WriteError,
)
from mtrl.evaluation.evaluator import EvaluationStopped
from mtrl.records.results import Record, read_result
from mtrl.settings.algorithms import agent_class
from mtrl.settings.config import TrainConfig, difference
from mtrl.settings.presets import read_yaml
from mtrl.training import checkpoint
from mtrl.training.card import TIME_LABEL, run_card
from mtrl.training.checkpoint import Checkpoint
from mtrl.training.clock import Clock
from mtrl.training.expected import UNKNOWN, ExpectedTime, time_left
from mtrl.training.interrupts import Interrupts
from mtrl.training.progress import Progress
from mtrl.training.run import Run
from mtrl.training.run_folder import RunFolder
from mtrl.training.torch_settings import torch_settings


def never() -> bool:
    """No stop is asked for."""
    return False


def train(
    config: TrainConfig, command: str = "", should_stop: Callable[[], bool] = never
) -> Record:
    """Start the run of ``config``, or continue it if its folder holds one. Returns the result record.

    In the main thread the first Ctrl-C or SIGTERM ends the training cleanly. In another thread, where Python handles no
    signals, only ``should_stop`` does, such as ``threading.Event().is_set``. PyTorch's settings of the process are
    changed meanwhile and given back (``training.torch_settings``). The commands also make two settings for speed before
    they import torch (``mtrl.threads``, ``mtrl.training.allocator``); a program that calls this makes them itself.

    Args:
        command: how the run was asked for, for the record.
        should_stop: asked between steps; once it returns True, training ends as on SIGTERM.

    Raises:
        InterruptedTraining: stopped; the same call continues the run.
        WorkbenchError, SuiteError, AgentError: see ``mtrl.errors``. Nothing is left half-written, and a start that
            fails leaves the folder as it was.
    """
    return train_together([config], command, should_stop)[0]


def train_together(
    configs: Sequence[TrainConfig], command: str = "", should_stop: Callable[[], bool] = never
) -> list[Record]:
    """Start or continue runs that differ in their seeds, all in this process; a finished one is left as it is.

    Each run continues from its own last checkpoint: those behind the others catch up first, then all go in lockstep.
    Every run ends as it would alone, to the bit on a CPU and to rounding on a GPU (see ``mtrl.agents.seeds``).

    Returns:
        The result records, in the order of ``configs``.

    Raises:
        WorkbenchError, SuiteError, AgentError: as ``train``. ``TrainingDiverged`` when all other runs have finished.
    """
    with contextlib.ExitStack() as stack:
        records: dict[int, Record] = {}
        begun: dict[int, tuple[TrainConfig, RunFolder, Checkpoint | None]] = {}
        for index, config in enumerate(configs):
            folder = stack.enter_context(RunFolder(config.folder))
            found = _find_checkpoint(config, folder)
            if found is not None:
                _check_total(config, found)
            if found is not None and _is_finished(folder, found, config):
                print(
                    f"{folder.path}: finished at {found.progress:,} env steps; raise total_env_steps to continue it"
                )
                records[index] = read_result(folder.result)
            else:
                begun[index] = config, folder, found
        if begun:
            first = configs[next(iter(begun))]
            device = resolve_device(first.device)
            remark = auto_remark(first.device)
            if remark is not None:
                print(f"warning: {remark}", file=sys.stderr)
            with torch_settings(device, first.torch_threads):
                records |= zip(
                    begun, Trainer(list(begun.values()), command, device, should_stop).run()
                )
        return [records[index] for index in range(len(configs))]


def _find_checkpoint(config: TrainConfig, folder: RunFolder) -> Checkpoint | None:
    """The checkpoint to continue from; a folder of another configuration is refused."""
    if folder.is_run:
        differs = difference(read_yaml(folder.config), config)
        if differs:
            raise RunFolderError(
                f"run_dir: {folder.path} holds another run: {differs}; choose another --run-dir"
            )
    found, warnings = checkpoint.newest_whole(folder.checkpoints)
    if found is None:
        return None
    for warning in warnings:
        print(
            f"warning: {warning}; using the older one, at {found.progress:,} env steps",
            file=sys.stderr,
        )
    differs = difference(found.config, config)
    if differs:
        raise CheckpointError(f"{found.path}: is of another run: {differs}")
    return found


def _check_total(config: TrainConfig, found: Checkpoint) -> None:
    """Refuse a planned total below the run's progress, unless the run was trained under this total."""
    total, unit = config.total_env_steps, agent_class(config.algorithm).unit.replace("_", " ")
    if total < found.progress and total != found.config["total_env_steps"]:
        raise ConfigError(
            f"total_env_steps: {total:,} is less than the {found.progress:,} {unit} that {config.folder} has done; "
            f"it must be at least that, or stay {found.config['total_env_steps']:,}"
        )


def _is_finished(folder: RunFolder, found: Checkpoint, config: TrainConfig) -> bool:
    if found.progress < config.total_env_steps or not folder.result.is_file():
        return False
    record = read_result(folder.result)
    unit = agent_class(config.algorithm).unit
    return bool(
        record["status"] == "finished" and record["evaluations"][-1][unit] == found.progress
    )


class Trainer:
    """Brings runs to their end in one process.

    Args:
        begun: for each run its configuration, its folder and the checkpoint to continue from, if any.
        command: how the runs were asked for, for the records.
        device: of the agents.
        should_stop: asked between steps.
    """

    def __init__(
        self,
        begun: Sequence[tuple[TrainConfig, RunFolder, Checkpoint | None]],
        command: str,
        device: torch.device,
        should_stop: Callable[[], bool] = never,
    ) -> None:
        self.config = begun[0][0]
        self._stop_asked = should_stop
        self._diverged: list[str] = []
        self.runs: list[Run] = []
        clock = Clock(len(begun))
        try:
            for own, folder, found in begun:
                label = f"seed {own.seed}: " if len(begun) > 1 else ""
                self.runs.append(Run(own, folder, found, command, device, clock, label))
            self._seeds = Seeds([run.agent for run in self.runs])
        except BaseException:
            self._close()
            raise

    def run(self) -> list[Record]:
        """Train to the end. Returns the records; their files say ``finished``.

        Raises:
            InterruptedTraining: Ctrl-C, SIGTERM or ``should_stop``; every run has saved.
            TrainingDiverged: naming the runs that diverged; the others have finished.
        """
        title = f"{self.config.suite} {self.config.method}"
        if len(self.runs) > 1:
            title += f" seeds {','.join(str(run.config.seed) for run in self.runs)}"
        # Runs that differ in their seeds have the same cautions.
        for caution in self.runs[0].agent.cautions(self.config.total_env_steps):
            print(f"warning: {caution}", file=sys.stderr)
        total = sum(run.config.total_env_steps for run in self.runs)
        first = self.runs[0]
        card = run_card(first.config, first.env, first.agent, self._time_so_far(total))
        print(card, file=sys.stderr, flush=True)
        self._expected = ExpectedTime(total, first.agent.unit_in_words)
        self.progress = Progress(title, self._taken(), total)
        for remark in dict.fromkeys(remark for run in self.runs for remark in run.remarks):
            self.progress.say(remark)
        try:
            with Interrupts() as self.interrupts:
                self._open()
                self._train()
        except (InterruptedTraining, KeyboardInterrupt):
            raise
        except Exception:
            for run in self._open_runs():
                with contextlib.suppress(WriteError):
                    run.write("failed")
            raise
        finally:
            self.progress.close()
            self._close()
        if self._diverged:
            raise TrainingDiverged("; ".join(self._diverged))
        return [run.record for run in self.runs]

    def _open(self) -> None:
        """Open all runs, or none: where one fails, the folders of all are as they were."""
        try:
            for run in self.runs:
                run.open(self.progress, self._should_stop)
        except BaseException:
            for run in self.runs:
                run.withdraw()
            raise

    def _close(self) -> None:
        for run in self.runs:
            run.close()

    def _train(self) -> None:
        try:
            for run in self._open_runs():
                self._attempt(run, run.do_what_is_due)
            while behind := self._behind():
                began, before = time.monotonic(), self._taken()
                failures = self._seeds.advance(behind)
                self._say_expected(time.monotonic() - began, before)
                self.progress.advance(self._taken())
                for index in behind:
                    self._after_advance(self.runs[index], failures.get(index))
                if self._should_stop():
                    break
            if self._should_stop():
                raise EvaluationStopped
            for run in self._open_runs():
                self._attempt(run, run.finish)
        except EvaluationStopped:
            self._stop()

    def _time_so_far(self, total: int) -> str:
        """How long runs that continue will take, if they stay as fast as they were; new runs are yet to be measured."""
        taken, seconds = self._taken(), sum(run.wall_s() for run in self.runs)
        if taken == 0:
            return UNKNOWN
        if taken >= total:
            return "all steps are taken; the last evaluation is left"
        unit = self.runs[0].agent.unit_in_words
        return f"{time_left(total - taken, taken, seconds, unit)}, as fast as it was so far"

    def _say_expected(self, seconds: float, before: int) -> None:
        """Count a call of ``advance`` that began at ``before``, and say how long training takes once it is known."""
        updated = all(run.agent.gradient_steps > 0 for run in self.runs)
        taken = self._taken()
        text = self._expected.add(seconds, taken - before, updated, taken)
        if text is not None:
            self.progress.say(f"{TIME_LABEL}{text}")

    def _behind(self) -> list[int]:
        """Indices of the runs with the least progress among those that are still training."""
        steps = {
            i: run.agent.progress
            for i, run in enumerate(self.runs)
            if run.is_open and not run.is_trained
        }
        return [index for index, taken in steps.items() if taken == min(steps.values())]

    def _after_advance(self, run: Run, failure: Failure | None) -> None:
        def go_on() -> None:
            if failure is not None:
                raise failure
            run.do_what_is_due()

        self._attempt(run, go_on)

    def _attempt(self, run: Run, action: Callable[[], None]) -> None:
        """Call ``action`` for a run. If the run has diverged, record that."""
        try:
            try:
                action()
            except SuiteError:
                run.agent.check_finite()  # environments refuse NaN actions, which is how NaN parameters show first
                raise
        except DivergedError as error:
            self._diverged.append(run.diverge(error))
            if len(self.runs) > 1:
                self.progress.say(self._diverged[-1])

    def _stop(self) -> None:
        """Save every run that is not over, then say how to continue."""
        signum, stopped = self.interrupts.signum, self._open_runs()
        assert signum is not None
        saved: list[str] = []
        for run in stopped:
            self._attempt(run, lambda run=run: saved.append(run.stop()))  # type: ignore[misc]
        stopped = [run for run in stopped if run.is_open]
        if not stopped:
            return
        steps = " and ".join(
            f"{taken:,}" for taken in sorted({run.agent.progress for run in stopped})
        )
        raise InterruptedTraining(
            f"stopped at {steps} {stopped[0].agent.unit_in_words}; continue {' and '.join(dict.fromkeys(saved))} with: "
            f"python -m mtrl.train --resume {','.join(str(run.folder.path) for run in stopped)}",
            signum,
        )

    def _open_runs(self) -> list[Run]:
        return [run for run in self.runs if run.is_open]

    def _taken(self) -> int:
        return sum(run.agent.progress for run in self.runs)

    def _should_stop(self) -> bool:
        if self.interrupts.signum is None and self._stop_asked():
            self.interrupts.signum = signal.SIGTERM
        return self.interrupts.signum is not None
