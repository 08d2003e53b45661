"""One seed's run: its agent, environments and record, and the schedule of logs, evaluations and checkpoints."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from mtrl import envs
from mtrl.agents import Agent
from mtrl.agents.optim.precision import trunk_dtype
from mtrl.errors import WriteError
from mtrl.evaluation.evaluator import Evaluator, goal_seed, make_evaluator
from mtrl.records.results import new_record, success_mean, write_result
from mtrl.settings.algorithms import agent_class
from mtrl.settings.config import TrainConfig, to_yaml
from mtrl.training import checkpoint
from mtrl.training.checkpoint import Checkpoint
from mtrl.training.clock import Clock
from mtrl.training.plan import extended, remarks
from mtrl.training.progress import Progress
from mtrl.training.run_folder import Contents, RunFolder, write_text

if TYPE_CHECKING:
    from mtrl.training.logger import TensorBoardLogger


@dataclasses.dataclass
class Schedule:
    """The env steps at which logging, evaluation and checkpoint are next due."""

    log: int
    evaluation: int
    checkpoint: int

    @classmethod
    def start(cls, config: TrainConfig) -> Schedule:
        return cls(config.log_every, config.eval.every, config.saves_every)


class Run:
    """Owns the agent, environments and records of one seed for the length of one process.

    Args:
        found: the checkpoint to continue from; None starts afresh.
        command: how the run was asked for, for the record.
        clock: of the process.
        label: stands in front of each message about the run.

    Attributes:
        remarks: sentences on the planned total, for whoever starts the run.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        found: Checkpoint | None,
        command: str,
        device: torch.device,
        clock: Clock,
        label: str = "",
    ) -> None:
        self.config, self.folder, self.label = config, folder, label
        self._clock = clock
        self._opened = False
        self._before: Contents | None = None
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
        try:
            self._start(found, command, device)
        except BaseException:
            self.env.close()
            raise

    def _start(self, found: Checkpoint | None, command: str, device: torch.device) -> None:
        """Create the agent and the record, or restore both from a checkpoint."""
        config = self.config
        kind = agent_class(config.algorithm)
        self.agent: Agent = kind(
            self.env, config.agent, seed=config.seed, device=device, graph=config.graph
        )
        self.agent.begin(config.total_env_steps)
        self.record = new_record(
            config,
            self.env.suite,
            self.env.backend,
            self.agent.num_parameters,
            goal_seed=goal_seed(config),
            device=str(device),
            precision=precision_of(config, device),
            command=command,
        )
        self.schedule = Schedule.start(config)
        self.events: TensorBoardLogger | None = None
        self._evaluator: Evaluator | None = None
        self._wall_before, self._joined = 0.0, self._clock.seconds()
        self._saved = (0, 0)
        self._resumed_at = 0
        planned: int | None = None
        if found is not None:
            planned = found.config["total_env_steps"]
            self._restore(found)
        self.remarks = remarks(self.agent, config.total_env_steps, planned)
        self._logged_at, self._logged_time = self.agent.progress, time.monotonic()
        self._logged_updates = self.agent.gradient_steps

    def open(self, progress: Progress, should_stop: Callable[[], bool]) -> None:
        """Write the configuration and a record with the status ``running``. Call this once, before the other methods.

        If it fails, ``withdraw`` leaves the folder as it was.

        Args:
            should_stop: asked during evaluations.
        """
        self.progress, self._should_stop = progress, should_stop
        self._before = self.folder.contents()
        write_text(self.folder.config, to_yaml(self.config))
        self.write("running")
        if self.config.tensorboard:
            self.events = self._open_events()
        if self._resumed_at:
            checkpoint.set_aside(self.folder.checkpoints, newer_than=self._resumed_at)
        self._opened = True

    def withdraw(self) -> None:
        """Remove what ``open`` wrote, so that a run with other settings can start in the folder."""
        self._close_events()  # first, since it writes
        if self._before is not None:
            self.folder.restore(self._before)
        self._opened = False

    @property
    def is_open(self) -> bool:
        """Whether the run has been opened, and neither finished nor diverged."""
        return self._opened and bool(self.record["status"] == "running")

    @property
    def is_trained(self) -> bool:
        """Whether all env steps are taken."""
        return self.agent.progress >= self.config.total_env_steps

    def do_what_is_due(self) -> None:
        """Log, evaluate and checkpoint, where their next time has come.

        Raises:
            EvaluationStopped: ``should_stop`` returned True.
            DivergedError: something to be written is not finite.
        """
        steps, schedule, config = self.agent.progress, self.schedule, self.config
        evaluation_due, checkpoint_due = (
            steps >= schedule.evaluation,
            steps >= schedule.checkpoint,
        )
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
        steps = self.agent.progress - self._logged_at
        values[f"time/{self.agent.unit}_per_second"] = steps / max(
            now - self._logged_time, 1e-9
        )
        values["time/wall_s"] = self.wall_s()
        values["time/gradient_steps"] = float(self.agent.gradient_steps)
        self._logged_at, self._logged_time = self.agent.progress, now
        # Means over updates.
        unsolved = sum(
            share for key, share in values.items() if key.endswith("_solve_failures")
        )
        updates, self._logged_updates = (
            self.agent.gradient_steps - self._logged_updates,
            self.agent.gradient_steps,
        )
        self.progress.add_unsolved(max(round(unsolved * updates), int(unsolved > 0)))
        if "rollout/success_rate" in values:
            self.progress.show(self.label, success=values["rollout/success_rate"])
        if self.events is not None:
            self.events.scalars(values, self.agent.progress)
            self.events.images(self.agent.images(), self.agent.progress)

    def _evaluate(self) -> None:
        if self._evaluator is None:
            self._evaluator = make_evaluator(self.config)
        self.progress.note("evaluating")
        results = self._evaluator.evaluate(self.agent, should_stop=self._should_stop)
        self.record["protocol"]["distinct_levels"] = self._evaluator.distinct_levels
        evaluation = {
            "env_steps": self.agent.env_steps,
            "gradient_steps": self.agent.gradient_steps,
            "wall_s": self.wall_s(),
            "per_task": {name: dataclasses.asdict(result) for name, result in results.items()},
        }
        self.record["evaluations"].append(evaluation)
        self.write("running")
        self.progress.evaluation(evaluation, self.label)
        if self.events is not None:
            self.events.evaluation(evaluation)

    def _save(self) -> None:
        """Checkpoint here. Environments without an exact state start afresh, as they will after a resume."""
        agent, env = self.agent, self.env
        if not env.exact_state:
            agent.rebase(agent.progress)
        self.schedule.checkpoint = _next_multiple(agent.progress, self.config.saves_every)
        if self.events is not None:
            self.events.flush()
        trainer: dict[str, Any] = {
            "schedule": dataclasses.asdict(self.schedule),
            "wall_s": self.wall_s(),
            "evaluations": self.record["evaluations"],
            "distinct_levels": self.record["protocol"]["distinct_levels"],
            "segments": self.record["budget"]["segments"],
            "commands": self.record["provenance"]["commands"],
        }
        state = {
            "trainer": trainer,
            "agent": agent.state_dict(),
            "env": checkpoint.tensors_of(env.state_dict()),
        }
        checkpoint.save(
            self.folder.checkpoints, agent.progress, self.config.flat(), state, agent.saved()
        )
        self._saved = (agent.progress, len(self.record["evaluations"]))

    def _restore(self, found: Checkpoint) -> None:
        state = found.state()
        trainer = state["trainer"]
        self.env.load_state_dict(
            {name: tensor.numpy() for name, tensor in state["env"].items()}
        )
        self.agent.load_state_dict(state["agent"])
        self.schedule = Schedule(**trainer["schedule"])
        self.record["evaluations"] = trainer["evaluations"]
        self.record["protocol"]["distinct_levels"] = trainer["distinct_levels"]
        self.record["provenance"]["commands"][:0] = trainer["commands"]
        self.record["budget"]["segments"] = extended(
            trainer["segments"], self.agent.progress, self.config.total_env_steps
        )
        self._wall_before = trainer["wall_s"]
        self._saved = (self.agent.progress, len(self.record["evaluations"]))
        self._resumed_at = self.agent.progress
        print(
            f"continuing {self.folder.path} from {found.progress:,} {self.agent.unit_in_words}",
            flush=True,
        )
        if not self.env.exact_state:
            print(
                f"{self.env.suite.id}: episodes in progress cannot be saved in backend {self.env.backend}, so every "
                "checkpoint starts new ones, in this run as in one that is never stopped",
                flush=True,
            )

    def finish(self) -> None:
        """Evaluate and save the trained agent, and say so. Raises as ``do_what_is_due``."""
        evaluations = self.record["evaluations"]
        if self._logged_at != self.agent.progress:
            self._log()
        self.agent.check_finite()
        if not evaluations or evaluations[-1][self.agent.unit] != self.agent.progress:
            self._evaluate()
        if self._saved != (self.agent.progress, len(evaluations)):
            self._save()
        self.write("finished")
        mean = success_mean(evaluations[-1]["per_task"])
        self.progress.say(
            f"{self.label}finished: success {mean:.3f} after {self.agent.progress:,} {self.agent.unit_in_words}; "
            f"{self.folder.result}"
        )

    def stop(self) -> str:
        """Save if a later resume then stays exact. Returns from where it will continue, in words."""
        # Without an exact state, saving between boundaries would start episodes afresh where no other run does.
        if (
            self.env.exact_state
            or self.is_trained
            or self.agent.progress >= self.schedule.checkpoint
        ):
            self.agent.check_finite()
            self._save()
        self.write("running")
        return (
            f"from {self._saved[0]:,} env steps"
            if self._saved[0]
            else "from the start, as no checkpoint was due yet"
        )

    def diverge(self, error: Exception) -> str:
        """Record that the run diverged. Returns a sentence that says at which step and why."""
        self.write("diverged")
        reached = f"{self.agent.progress:,} {self.agent.unit_in_words}"
        return f"{self.label}training diverged at {reached}: {error}; {self._last_good()}"

    def _open_events(self) -> TensorBoardLogger:
        # A second of imports, which runs without it are spared.
        from mtrl.training.logger import (
            TensorBoardLogger,
        )

        return TensorBoardLogger(self.folder.tensorboard, self._resumed_at, self.config.flat())

    def _last_good(self) -> str:
        return (
            f"the last good checkpoint is at {self._saved[0]:,} env steps"
            if self._saved[0]
            else "there is no checkpoint yet"
        )

    def wall_s(self) -> float:
        """Seconds that the run has taken so far, in all its processes."""
        return self._wall_before + self._clock.seconds() - self._joined

    def write(self, status: str) -> None:
        """Write the record as it is now."""
        self.record["status"] = status
        self.record["budget"] |= {
            "env_steps": self.agent.env_steps,
            "gradient_steps": self.agent.gradient_steps,
        }
        write_result(self.folder.result, self.record)
        if status in ("finished", "diverged"):
            self._clock.leave()

    def close(self) -> None:
        """Close the environments and logs. Files stay as the last ``write`` left them."""
        self._close_events()
        if self._evaluator is not None:
            self._evaluator.close()
        self.env.close()

    def _close_events(self) -> None:
        if self.events is not None:
            with contextlib.suppress(WriteError):
                self.events.close()
            self.events = None


def precision_of(config: TrainConfig, device: torch.device) -> str:
    """The number format of an agent's matrix products on a device; agents without that setting compute in float32."""
    setting = getattr(config.agent, "precision", "fp32")
    return "bf16" if trunk_dtype(setting, device) is torch.bfloat16 else "fp32"


def _next_multiple(steps: int, every: int) -> int:
    return (steps // every + 1) * every
