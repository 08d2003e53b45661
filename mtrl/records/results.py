"""The one JSON record of a run: building it, checking it against the protocol, writing and reading it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from mtrl.envs import Suite
from mtrl.errors import ResultError
from mtrl.records.provenance import provenance
from mtrl.records.schema import Check, compile_schema, join, show
from mtrl.settings.config import TrainConfig, shortened
from mtrl.settings.fields import Flat
from mtrl.training.run_folder import write_text

SCHEMA_VERSION = 1
STATUSES = ("running", "finished", "failed", "diverged")
Record = dict[str, Any]


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
    return math.fsum(task["successes"] / task["episodes"] for task in per_task.values()) / len(
        per_task
    )


def new_record(
    config: TrainConfig, suite: Suite, backend: str, num_parameters: int, device: str, command: str
) -> Record:
    """The record of a run that has not stepped yet; status ``running``."""
    params = {
        key: value for key, value in config.flat().items() if key not in ("run_dir", "device")
    }
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
        "method": method_of(params) | {"num_parameters": num_parameters},
        "seed": config.seed,
        "budget": {"env_steps": 0, "gradient_steps": 0},
        "evaluations": [],
        "provenance": provenance(config.sha256, device, command),
    }


def method_of(params: Flat) -> Record:
    """The ``method`` object of a run with these settings, the number of its parameters apart."""
    short = shortened(params)
    return {
        "name": params["method"],
        "agent": params["algorithm"],
        "aggregator": short.get("agent.aggregator"),
        "curriculum": short.get("agent.curriculum"),
        "architecture": short.get("agent.architecture", short.get("agent.heads")),
        "params": params,
    }


def validate(record: Any) -> Record:
    """Return ``record`` if it follows the protocol.

    Raises:
        ResultError: naming the field, what it holds and what is allowed.
    """
    for problem in problems(record):
        raise ResultError(problem)
    checked: Record = record
    return checked


def problems(record: Any) -> list[str]:
    """What is wrong with a record, one sentence each, starting with the JSON path; empty if it is right."""
    version = record.get("schema_version") if isinstance(record, dict) else SCHEMA_VERSION
    if version != SCHEMA_VERSION:
        found = "is missing" if version is None else f"{show(version)} is not supported"
        return [f"schema_version: {found}; this version reads {SCHEMA_VERSION}"]
    found_by_schema = [f"{path or 'record'}: {text}" for path, text in _schema_check()(record)]
    # What belongs together can be judged only once each part is what it should be.
    return found_by_schema or [*_semantic_problems(record)]


def schema_path(version: int = SCHEMA_VERSION) -> Path:
    """The published JSON schema of a version of the result file."""
    return Path(__file__).parent / "schemas" / f"result-{version}.json"


@cache
def _schema_check() -> Check:
    return compile_schema(json.loads(schema_path().read_text(encoding="utf-8")))


def _semantic_problems(record: Record) -> Iterator[str]:
    protocol, evaluations = record["protocol"], record["evaluations"]
    last = {"env_steps": -1, "gradient_steps": 0, "wall_s": 0}
    for index, evaluation in enumerate(evaluations):
        where = f"evaluations[{index}]"
        stands_still = evaluation["env_steps"] == last["env_steps"]
        learns_from_data = stands_still and evaluation["gradient_steps"] > last["gradient_steps"]
        if evaluation["env_steps"] <= last["env_steps"] and not learns_from_data:
            yield f"{where}.env_steps: {evaluation['env_steps']} does not come after {last['env_steps']}"
        for key in ("gradient_steps", "wall_s"):
            if evaluation[key] < last[key]:
                yield f"{where}.{key}: {evaluation[key]} is less than {last[key]} one evaluation before"
        last = evaluation
        if list(evaluation["per_task"]) != protocol["tasks"]:
            yield f"{where}.per_task: the tasks are not those of protocol.tasks, in their order"
            continue
        for name, task in evaluation["per_task"].items():
            for count in ("successes", "final_step_successes"):
                if task[count] > task["episodes"]:
                    yield (
                        f"{where}.{join('per_task', join(name, count))}: {task[count]} is not between 0 and "
                        + (f"episodes, {task['episodes']}")
                    )
            if task["episodes"] != protocol["episodes_per_task"]:
                yield (
                    f"{where}.{join('per_task', join(name, 'episodes'))}: {task['episodes']} is not "
                    + (f"protocol.episodes_per_task, {protocol['episodes_per_task']}")
                )
    reached = record["budget"]["env_steps"]
    if evaluations and last["env_steps"] > reached:
        yield f"budget.env_steps: {reached} is less than the last evaluation's, {last['env_steps']}"
    if record["status"] == "finished" and last["env_steps"] != reached:
        yield f"status: the run is finished, but has no evaluation at budget.env_steps, {reached}"


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
