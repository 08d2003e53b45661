"""A training run: learn, log, evaluate, checkpoint, and continue after whatever happened."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from typing import TYPE_CHECKING, Any

import torch

import envs
from agents import Agent, DivergedError
from agents.base import resolve_device
from envs import SuiteError
from mtrl import checkpoint
from mtrl.allocator import keep_freed_memory
from mtrl.checkpoint import Checkpoint
from mtrl.config import TrainConfig, agent_class, difference, to_yaml
from mtrl.errors import CheckpointError, InterruptedTraining, RunFolderError, TrainingDiverged, WriteError
from mtrl.evaluator import EvaluationStopped, Evaluator, make_evaluator
from mtrl.interrupts import Interrupts
from mtrl.presets import read_yaml
from mtrl.progress import Progress
from mtrl.results import Record, new_record, read_result, success_mean, write_result
from mtrl.run_folder import RunFolder, write_text

if TYPE_CHECKING:
    from mtrl.logger import TensorBoardLogger


@dataclasses.dataclass
class Schedule:
    """The env steps at which logging, evaluation and checkpoint are next due."""

    log: int
    evaluation: int
    checkpoint: int

    @classmethod
    def start(cls, config: TrainConfig) -> Schedule:
        return cls(config.log_every, config.eval.every, config.checkpoint_every)


def train(config: TrainConfig, command: str = "") -> Record:
    """Start the run of ``config``, or continue it if its folder holds one. Returns the result record.

    Args:
        command: how the run was asked for, for the record.

    Raises:
        WorkbenchError, SuiteError, AgentError: see ``mtrl.errors``; nothing is left half-written.
    """
    with RunFolder(config.folder) as folder:
        found = _find_checkpoint(config, folder)
        if found is not None and _is_finished(folder, found, config):
            print(f"{folder.path}: finished at {found.env_steps:,} env steps; raise total_env_steps to continue it")
            return read_result(folder.result)
        return Trainer(config, folder, found, command).run()


def _find_checkpoint(config: TrainConfig, folder: RunFolder) -> Checkpoint | None:
    """The checkpoint to continue from; a folder of another configuration is refused."""
    if folder.is_run:
        differs = difference(read_yaml(folder.config), config)
        if differs:
            raise RunFolderError(f"run_dir: {folder.path} holds another run: {differs}; choose another --run-dir")
    found, warnings = checkpoint.newest_whole(folder.checkpoints)
    if found is None:
        return None
    for warning in warnings:
        print(f"warning: {warning}; using the older one, at {found.env_steps:,} env steps", file=sys.stderr)
    differs = difference(found.config, config)
    if differs:
        raise CheckpointError(f"{found.path}: is of another run: {differs}")
    checkpoint.set_aside(folder.checkpoints, newer_than=found.env_steps)
    return found


def _is_finished(folder: RunFolder, found: Checkpoint, config: TrainConfig) -> bool:
    if found.env_steps < config.total_env_steps or not folder.result.is_file():
        return False
    record = read_result(folder.result)
    return bool(record["status"] == "finished" and record["evaluations"][-1]["env_steps"] == found.env_steps)


class Trainer:
    """Owns the agent, its environments and its records for the length of one process."""

    def __init__(self, config: TrainConfig, folder: RunFolder, found: Checkpoint | None, command: str) -> None:
        self.config, self.folder = config, folder
        device = resolve_device(config.device)
        keep_freed_memory()
        if config.torch_threads:
            torch.set_num_threads(config.torch_threads)
        # Unlike use_deterministic_algorithms, this does not import the compiler (two seconds of CPU).
        torch.set_deterministic_debug_mode("error" if device.type == "cpu" else "default")
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        self.env = envs.make_vec(
            config.suite,
            config.envs_per_task,
            backend=config.backend,
            seed=config.seed,
            goals=config.goals,
            goal_seed=config.benchmark_seed,
            stagger=config.stagger,
            num_workers=config.num_workers,
            num_threads=config.num_threads,
        )
        kind = agent_class(config.algorithm)
        self.agent: Agent = kind(self.env, config.agent, seed=config.seed, device=device)
        self.record = new_record(
            config, self.env.suite, self.env.backend, self.agent.num_parameters, str(device), command
        )
        self.schedule = Schedule.start(config)
        self._evaluator: Evaluator | None = None
        self._wall_before, self._began = 0.0, time.monotonic()
        self._saved = (0, 0)
        self._resumed_at = 0
        if found is not None:
            self._restore(found)
        self._logged_at, self._logged_time = self.agent.env_steps, time.monotonic()

    def run(self) -> Record:
        """Train to the end. Returns the record; its file says ``finished``."""
        config, agent = self.config, self.agent
        write_text(self.folder.config, to_yaml(config))
        self._write("running")
        self.progress = Progress(f"{config.suite} {config.method}", agent.env_steps, config.total_env_steps)
        self.events = self._open_events() if config.tensorboard else None
        try:
            with Interrupts() as self.interrupts:
                self._train()
        except DivergedError as error:
            self._write("diverged")
            raise TrainingDiverged(
                f"training diverged at {agent.env_steps:,} env steps: {error}; {self._last_good()}"
            ) from None
        except (InterruptedTraining, KeyboardInterrupt):
            raise
        except Exception:
            with contextlib.suppress(WriteError):
                self._write("failed")
            raise
        finally:
            self._close()
        return self.record

    def _train(self) -> None:
        try:
            self._do_what_is_due()
            self.agent.learn(self.config.total_env_steps, self._after_advance)
            if self.interrupts.signum is not None:
                raise EvaluationStopped
            self._finish()
        except EvaluationStopped:
            self._stop()
        except SuiteError:
            self.agent.check_finite()  # environments refuse NaN actions, which is how NaN parameters show first
            raise

    def _after_advance(self, agent: Agent) -> bool:
        self.progress.advance(agent.env_steps)
        self._do_what_is_due()
        return self.interrupts.signum is None

    def _do_what_is_due(self) -> None:
        steps, schedule, config = self.agent.env_steps, self.schedule, self.config
        evaluation_due, checkpoint_due = steps >= schedule.evaluation, steps >= schedule.checkpoint
        if steps >= schedule.log or checkpoint_due:
            self._log()
            schedule.log = _next_multiple(steps, config.log_every)
        if evaluation_due or checkpoint_due:
            self.agent.check_finite()
        if evaluation_due:
            self._evaluate()
            schedule.evaluation = _next_multiple(steps, config.eval.every)
        if checkpoint_due:
            self._save()

    def _log(self) -> None:
        values, now = self.agent.metrics(), time.monotonic()
        steps = self.agent.env_steps - self._logged_at
        values["time/env_steps_per_second"] = steps / max(now - self._logged_time, 1e-9)
        values["time/wall_s"] = self._wall_s()
        values["time/gradient_steps"] = float(self.agent.gradient_steps)
        self._logged_at, self._logged_time = self.agent.env_steps, now
        if "rollout/success_rate" in values:
            self.progress.show(success=values["rollout/success_rate"])
        if self.events is not None:
            self.events.scalars(values, self.agent.env_steps)
            self.events.images(self.agent.images(), self.agent.env_steps)

    def _evaluate(self) -> None:
        if self._evaluator is None:
            self._evaluator = make_evaluator(self.config)
        self.progress.note("evaluating")
        results = self._evaluator.evaluate(self.agent, should_stop=lambda: self.interrupts.signum is not None)
        evaluation = {
            "env_steps": self.agent.env_steps,
            "gradient_steps": self.agent.gradient_steps,
            "wall_s": self._wall_s(),
            "per_task": {name: dataclasses.asdict(result) for name, result in results.items()},
        }
        self.record["evaluations"].append(evaluation)
        self._write("running")
        self.progress.evaluation(evaluation)
        if self.events is not None:
            self.events.evaluation(evaluation)

    def _save(self) -> None:
        """Checkpoint here. Environments without an exact state start afresh, as they will after a resume."""
        agent, env = self.agent, self.env
        if not env.exact_state:
            agent.rebase(agent.env_steps)
        self.schedule.checkpoint = _next_multiple(agent.env_steps, self.config.checkpoint_every)
        if self.events is not None:
            self.events.flush()
        trainer: dict[str, Any] = {
            "schedule": dataclasses.asdict(self.schedule),
            "wall_s": self._wall_s(),
            "evaluations": self.record["evaluations"],
        }
        state = {"trainer": trainer, "agent": agent.state_dict(), "env": checkpoint.tensors_of(env.state_dict())}
        checkpoint.save(
            self.folder.checkpoints, agent.env_steps, self.config.flat(), state, agent.state_dict(experience=False)
        )
        self._saved = (agent.env_steps, len(self.record["evaluations"]))

    def _restore(self, found: Checkpoint) -> None:
        state = found.state()
        trainer = state["trainer"]
        self.env.load_state_dict({name: tensor.numpy() for name, tensor in state["env"].items()})
        self.agent.load_state_dict(state["agent"])
        self.schedule = Schedule(**trainer["schedule"])
        self.record["evaluations"] = trainer["evaluations"]
        self._wall_before = trainer["wall_s"]
        self._saved = (self.agent.env_steps, len(self.record["evaluations"]))
        self._resumed_at = self.agent.env_steps
        print(f"continuing {self.folder.path} from {found.env_steps:,} env steps", flush=True)

    def _finish(self) -> None:
        evaluations = self.record["evaluations"]
        if self._logged_at != self.agent.env_steps:
            self._log()
        self.agent.check_finite()
        if not evaluations or evaluations[-1]["env_steps"] != self.agent.env_steps:
            self._evaluate()
        if self._saved != (self.agent.env_steps, len(evaluations)):
            self._save()
        self._write("finished")
        mean = success_mean(evaluations[-1]["per_task"])
        self.progress.say(
            f"finished: success {mean:.3f} after {self.agent.env_steps:,} env steps; {self.folder.result}"
        )

    def _stop(self) -> None:
        """Save what keeps a later resume exact, then say how to continue."""
        signum = self.interrupts.signum
        assert signum is not None
        at_end = self.agent.env_steps >= self.config.total_env_steps
        # Without an exact state, saving between boundaries would start episodes afresh where no other run does.
        if self.env.exact_state or at_end or self.agent.env_steps >= self.schedule.checkpoint:
            self.agent.check_finite()
            self._save()
        self._write("running")
        saved = (
            f"from {self._saved[0]:,} env steps" if self._saved[0] else "from the start, as no checkpoint was due yet"
        )
        raise InterruptedTraining(
            f"stopped at {self.agent.env_steps:,} env steps; continue {saved} with: "
            f"python -m mtrl.train --resume {self.folder.path}",
            signum,
        )

    def _open_events(self) -> TensorBoardLogger:
        from mtrl.logger import TensorBoardLogger  # a second of imports, which runs without it are spared

        return TensorBoardLogger(self.folder.tensorboard, self._resumed_at, self.config.flat())

    def _last_good(self) -> str:
        return (
            f"the last good checkpoint is at {self._saved[0]:,} env steps"
            if self._saved[0]
            else "there is no checkpoint yet"
        )

    def _wall_s(self) -> float:
        return self._wall_before + time.monotonic() - self._began

    def _write(self, status: str) -> None:
        self.record["status"] = status
        self.record["budget"] = {"env_steps": self.agent.env_steps, "gradient_steps": self.agent.gradient_steps}
        write_result(self.folder.result, self.record)

    def _close(self) -> None:
        self.progress.close()
        if self.events is not None:
            with contextlib.suppress(WriteError):
                self.events.close()
        if self._evaluator is not None:
            self._evaluator.close()
        self.env.close()


def _next_multiple(steps: int, every: int) -> int:
    return (steps // every + 1) * every
