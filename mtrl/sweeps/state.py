"""The state of each run of a sweep, read from its files alone, so that a restarted sweep continues a killed one."""

from __future__ import annotations

import dataclasses
import fcntl
import os
from pathlib import Path
from typing import Any, Literal

from mtrl.errors import ResultError, RunFolderError
from mtrl.records.results import Record, read_result, success_mean, write_result
from mtrl.settings.config import difference
from mtrl.settings.presets import read_yaml
from mtrl.sweeps.spec import Unit
from mtrl.training import checkpoint

Status = Literal["finished", "diverged", "failed", "begun", "new"]


@dataclasses.dataclass(frozen=True)
class State:
    """Where a run stands.

    Attributes:
        env_steps: those that a restart does not repeat.
        success: mean of the last evaluation, if there is one.
    """

    status: Status
    env_steps: int = 0
    success: float | None = None

    @property
    def over(self) -> bool:
        """Whether nothing is left to do. A run that diverged counts, because it would diverge again."""
        return self.status in ("finished", "diverged")


def state_of(unit: Unit) -> State:
    """Where a run stands.

    Raises:
        RunFolderError: its folder or result file belongs to another configuration.
    """
    record = read_result(unit.result) if unit.result.is_file() else None
    if record is not None:
        _check_same(unit, unit.result, record["method"]["params"])
        made_longer = record["budget"]["env_steps"] < unit.config.total_env_steps
        if record["status"] == "diverged" or (
            record["status"] == "finished" and not made_longer
        ):
            return State(record["status"], record["budget"]["env_steps"], _success(record))
    if not (unit.folder / "config.yaml").is_file():
        return State("new")
    _check_same(unit, unit.folder, read_yaml(unit.folder / "config.yaml"))
    saved = checkpoint.newest_first(unit.folder / "checkpoints")
    failed = record is not None and record["status"] == "failed"
    env_steps = int(saved[0].name) if saved else 0
    return State("failed" if failed else "begun", env_steps)


def collect(unit: Unit, gave_up: bool = False) -> State:
    """Copy the record of a finished run, or of one that failed for good, into the results folder.

    Args:
        gave_up: the run is not tried again, so a record that says ``running`` counts as failed.
    """
    source = unit.folder / "result.json"
    if source.is_file():
        record = read_result(source)
        if gave_up and record["status"] == "running":
            record["status"] = "failed"
        if record["status"] != "running":
            unit.result.parent.mkdir(parents=True, exist_ok=True)
            write_result(unit.result, record)
            return State(record["status"], record["budget"]["env_steps"], _success(record))
    return State("failed" if gave_up else "begun")


def in_use(unit: Unit) -> bool:
    """Whether some process trains in the run's folder now, such as one that outlived a killed sweep."""
    path = unit.folder / ".lock"
    if not path.exists():
        return False
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def measured_rate(unit: Unit) -> float | None:
    """Env steps per second of the finished runs among the results that differ in their seed only.

    Evaluations are included. A run that shared its process with other seeds has its part of that process's seconds.
    """
    steps, seconds = 0, 0.0
    for path in sorted(unit.result.parent.glob("seed-*.json")):
        try:
            record = read_result(path)
        except ResultError:
            continue  # `leaderboard check` names such files; for an estimate the others suffice
        if record["status"] == "finished":
            steps += record["evaluations"][-1]["env_steps"]
            seconds += record["evaluations"][-1]["wall_s"]
    return steps / seconds if seconds > 0 else None


def _success(record: Record) -> float | None:
    return (
        success_mean(record["evaluations"][-1]["per_task"]) if record["evaluations"] else None
    )


def _check_same(unit: Unit, where: Path, saved: dict[str, Any]) -> None:
    differs = difference(saved, unit.config)
    if differs:
        raise RunFolderError(
            f"results: {where} is of another run: {differs}; choose another results folder"
        )


def log_path(unit: Unit) -> Path:
    """File of the run's output. It lies beside the run's folder, in which only the trainer writes."""
    return unit.folder.with_name(f"{unit.folder.name}.log")
