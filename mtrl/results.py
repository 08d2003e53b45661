"""The one JSON record of a run: building it, checking it against the protocol, writing and reading it."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from envs import Suite
from mtrl.config import TrainConfig
from mtrl.errors import ResultError
from mtrl.provenance import provenance
from mtrl.run_folder import write_text

SCHEMA_VERSION = 1
STATUSES = ("running", "finished", "failed", "diverged")
Record = dict[str, Any]

_OPTIONAL_TEXT = (str, type(None))
_TOP = {"schema_version": int, "run_id": str, "status": str, "protocol": dict, "method": dict, "seed": int,
        "budget": dict, "evaluations": list, "provenance": dict}  # fmt: skip
_PROTOCOL = {"suite": str, "tasks": list, "backend": str, "reward_version": str, "horizon": int, "goals": str,
             "success": str, "episodes_per_task": int, "deterministic": bool, "eval_seed": int}  # fmt: skip
_METHOD = {"name": str, "agent": str, "aggregator": _OPTIONAL_TEXT, "curriculum": _OPTIONAL_TEXT,
           "architecture": _OPTIONAL_TEXT, "params": dict, "num_parameters": int}  # fmt: skip
_BUDGET = {"env_steps": int, "gradient_steps": int}
_EVALUATION = {"env_steps": int, "gradient_steps": int, "wall_s": float, "per_task": dict}
_TASK = {"successes": int, "final_step_successes": int, "episodes": int, "return_mean": float, "length_mean": float}
_PROVENANCE = {"git_commit": _OPTIONAL_TEXT, "git_dirty": (bool, type(None)), "command": str, "config_sha256": str,
               "packages": dict, "python": str, "os": str, "device": str, "cpu_count": int}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """Counts of one task in one evaluation: the sums stay exact, so intervals and merges do too.

    Attributes:
        successes: episodes that succeeded under the suite's rule.
        final_step_successes: episodes whose success flag was true at their last step.
        episodes: episodes counted.
        return_mean: mean undiscounted return.
        length_mean: mean episode length, in steps.
    """

    successes: int
    final_step_successes: int
    episodes: int
    return_mean: float
    length_mean: float

    @property
    def success_rate(self) -> float:
        return self.successes / self.episodes


def success_mean(per_task: dict[str, Record]) -> float:
    """Unweighted mean over tasks of the success rate, from one evaluation's ``per_task``."""
    return math.fsum(task["successes"] / task["episodes"] for task in per_task.values()) / len(per_task)


def new_record(
    config: TrainConfig, suite: Suite, backend: str, num_parameters: int, device: str, command: str
) -> Record:
    """The record of a run that has not stepped yet; status ``running``."""
    params = config.flat()
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": config.run_id,
        "status": "running",
        "protocol": {
            "suite": suite.id,
            "tasks": list(suite.task_names),
            "backend": backend,
            "reward_version": suite.reward_version,
            "horizon": suite.horizon,
            "goals": suite.goals,
            "success": suite.success,
            "episodes_per_task": config.eval.episodes_per_task,
            "deterministic": True,
            "eval_seed": config.eval.seed,
        },
        "method": {
            "name": config.method,
            "agent": config.algorithm,
            "aggregator": params.get("agent.aggregator"),
            "curriculum": params.get("agent.curriculum"),
            "architecture": params.get("agent.architecture", params.get("agent.heads")),
            "params": {key: value for key, value in params.items() if key not in ("run_dir", "device")},
            "num_parameters": num_parameters,
        },
        "seed": config.seed,
        "budget": {"env_steps": 0, "gradient_steps": 0},
        "evaluations": [],
        "provenance": provenance(config.sha256, device, command),
    }


def validate(record: Any) -> Record:
    """Return ``record`` if it follows the protocol.

    Raises:
        ResultError: naming the field, what it holds and what is allowed.
    """
    _check_fields(record, _TOP, "record")
    if record["schema_version"] != SCHEMA_VERSION:
        raise ResultError(
            f"schema_version: {record['schema_version']} is not supported; this version reads {SCHEMA_VERSION}"
        )
    if record["status"] not in STATUSES:
        raise ResultError(f"status: {record['status']!r} is not one of {', '.join(STATUSES)}")
    for part, fields in (
        ("protocol", _PROTOCOL),
        ("method", _METHOD),
        ("budget", _BUDGET),
        ("provenance", _PROVENANCE),
    ):
        _check_fields(record[part], fields, part)
    last = -1
    for index, evaluation in enumerate(record["evaluations"]):
        where = f"evaluations[{index}]"
        _check_fields(evaluation, _EVALUATION, where)
        if evaluation["env_steps"] <= last:
            raise ResultError(f"{where}.env_steps: {evaluation['env_steps']} does not come after {last}")
        last = evaluation["env_steps"]
        if list(evaluation["per_task"]) != record["protocol"]["tasks"]:
            raise ResultError(f"{where}.per_task: the tasks are not those of protocol.tasks, in their order")
        for name, task in evaluation["per_task"].items():
            _check_task(task, f"{where}.per_task.{name}")
    return record


def _check_task(task: Any, where: str) -> None:
    _check_fields(task, _TASK, where)
    if task["episodes"] < 1:
        raise ResultError(f"{where}.episodes: {task['episodes']} is too small; it must be at least 1")
    for count in ("successes", "final_step_successes"):
        if not 0 <= task[count] <= task["episodes"]:
            raise ResultError(f"{where}.{count}: {task[count]} is not between 0 and episodes, {task['episodes']}")


def _check_fields(part: Any, fields: dict[str, Any], where: str) -> None:
    if not isinstance(part, dict):
        raise ResultError(f"{where}: is {type(part).__name__}, not an object")
    for name in sorted(fields.keys() ^ part.keys()):
        raise ResultError(f"{where}.{name}: is {'missing' if name in fields else 'not part of the protocol'}")
    for name, kind in fields.items():
        value = part[name]
        allowed = (int, float) if kind is float else kind
        if not isinstance(value, allowed) or (isinstance(value, bool) and kind in (int, float)):
            raise ResultError(f"{where}.{name}: {value!r} is of the wrong type ({type(value).__name__})")
        if isinstance(value, float) and not math.isfinite(value):
            raise ResultError(f"{where}.{name}: {value} is not finite")


def write_result(path: Path, record: Record) -> None:
    """Check the record, then write it whole or not at all."""
    write_text(path, json.dumps(validate(record), indent=1, allow_nan=False) + "\n")


def read_result(path: Path) -> Record:
    """Read and check a record.

    Raises:
        ResultError: the file is missing, not JSON, or not a record of this schema.
    """
    try:
        return validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ResultError(f"{path}: cannot be read ({error.strerror})") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ResultError(f"{path}: is truncated or not JSON ({error})") from None
    except ResultError as error:
        raise ResultError(f"{path}: {error}") from None
