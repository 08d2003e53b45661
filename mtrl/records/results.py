"""The one JSON record of a run: building it, checking it against the protocol, writing and reading it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from mtrl import envs
from mtrl.envs import Suite, SuiteError
from mtrl.errors import ResultError
from mtrl.records.provenance import provenance
from mtrl.records.record import SCHEMA_VERSION
from mtrl.records.schema import join, show, violations
from mtrl.settings.config import PLACE_KEYS, Flat, TrainConfig, shortened
from mtrl.training.run_folder import write_text

Record = dict[str, Any]
NETWORK = "mlp"
"""Architecture of agents whose settings name none."""


def success_mean(per_task: dict[str, Record]) -> float:
    """Unweighted mean over tasks of the success rate, from one evaluation's ``per_task``."""
    return math.fsum(task["successes"] / task["episodes"] for task in per_task.values()) / len(
        per_task
    )


def new_record(
    config: TrainConfig,
    suite: Suite,
    backend: str,
    num_parameters: int,
    *,
    goal_seed: int,
    device: str,
    precision: str,
    command: str = "",
) -> Record:
    """The record of a run that has not stepped yet; status ``running``.

    Args:
        goal_seed: of the goals or levels that are evaluated.
        precision: ``bf16`` or ``fp32``, what the agent computes in.
        command: how the run was asked for; none from a program.
    """
    params = {key: value for key, value in config.flat().items() if key not in PLACE_KEYS}
    planned = {"env_steps": 0, "total_env_steps": config.total_env_steps}
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
            "goal_seed": goal_seed,
            "distinct_levels": None,
            "success": suite.success,
            "episodes_per_task": config.eval.episodes_per_task,
            "deterministic": True,
            "eval_seed": config.eval.seed,
        },
        "method": method_of(params) | {"num_parameters": num_parameters},
        "seed": config.seed,
        "budget": {"env_steps": 0, "gradient_steps": 0, "segments": [planned]},
        "evaluations": [],
        "provenance": provenance(config.sha256, device, precision, command),
    }


def method_of(params: Flat) -> Record:
    """The ``method`` object of a run with these settings, the number of its parameters apart."""
    short = shortened(params)
    return {
        "name": params["method"],
        "agent": params["algorithm"],
        "aggregator": short.get("agent.aggregator"),
        "curriculum": short.get("agent.curriculum"),
        "network": short.get("agent.network", NETWORK),
        "heads": short.get("agent.heads"),
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
        return [f"schema_version: {found}; this version of mtrl reads {SCHEMA_VERSION}"]
    broken = [f"{path or 'record'}: {text}" for path, text in violations(record)]
    # Rules about several fields are checked only where each field is valid.
    return broken or [*_semantic_problems(record)]


def _semantic_problems(record: Record) -> Iterator[str]:
    yield from _problems_of_declaration(record)
    yield from _problems_of_evaluations(record)
    yield from _problems_of_plan(record["budget"]["segments"])
    protocol = record["protocol"]
    levels = protocol["distinct_levels"]
    if levels is None:
        return
    if list(levels) != protocol["tasks"]:
        yield "protocol.distinct_levels: the tasks are not those of protocol.tasks, in their order"
    for name, count in levels.items():
        if count > protocol["episodes_per_task"]:
            where = join("protocol", join("distinct_levels", join(name, "")))
            yield f"{where}: {count} is more than protocol.episodes_per_task, {protocol['episodes_per_task']}"


def _problems_of_declaration(record: Record) -> Iterator[str]:
    """Whether a declared suite is that of the protocol. Its id is known to this process from now on."""
    declaration, suite = (
        record["method"]["params"].get("declaration"),
        record["protocol"]["suite"],
    )
    if declaration is None:
        return
    try:
        declared = envs.declare(str(declaration)).id
    except SuiteError as error:
        yield f"method.params.{error}"
        return
    if declared != suite:
        yield f"method.params.declaration: is of suite {declared}, and protocol.suite is {show(suite)}"


def _problems_of_plan(segments: list[Record]) -> Iterator[str]:
    if segments[0]["env_steps"]:
        yield f"budget.segments[0].env_steps: {segments[0]['env_steps']} is not 0, where a run starts"
    for index, (before, after) in enumerate(pairwise(segments)):
        where = f"budget.segments[{index + 1}].env_steps"
        if after["env_steps"] is None:
            yield f"{where}: is null, which only the first may be"
        elif after["env_steps"] <= (before["env_steps"] or 0):
            yield f"{where}: {after['env_steps']} does not come after {before['env_steps'] or 0}"


def _problems_of_evaluations(record: Record) -> Iterator[str]:
    last = {"env_steps": -1, "gradient_steps": 0, "wall_s": 0}
    for index, evaluation in enumerate(record["evaluations"]):
        where = f"evaluations[{index}]"
        stands_still = evaluation["env_steps"] == last["env_steps"]
        learns_from_data = (
            stands_still and evaluation["gradient_steps"] > last["gradient_steps"]
        )
        if evaluation["env_steps"] <= last["env_steps"] and not learns_from_data:
            yield f"{where}.env_steps: {evaluation['env_steps']} does not come after {last['env_steps']}"
        for key in ("gradient_steps", "wall_s"):
            if evaluation[key] < last[key]:
                yield f"{where}.{key}: {evaluation[key]} is less than {last[key]} one evaluation before"
        last = evaluation
        if list(evaluation["per_task"]) != record["protocol"]["tasks"]:
            yield f"{where}.per_task: the tasks are not those of protocol.tasks, in their order"
            continue
        episodes = record["protocol"]["episodes_per_task"]
        for name, task in evaluation["per_task"].items():
            # Most of a file is counts, and nearly all are right, so JSON paths are made for the wrong ones only.
            most = max(task["successes"], task["final_step_successes"])
            if most > episodes or task["episodes"] != episodes:
                place = f"{where}.{join('per_task', join(name, ''))}"
                yield from _problems_of_counts(place, task, episodes)
    reached = record["budget"]["env_steps"]
    if record["evaluations"] and last["env_steps"] > reached:
        yield f"budget.env_steps: {reached} is less than the last evaluation's, {last['env_steps']}"
    if record["status"] == "finished" and last["env_steps"] != reached:
        yield f"status: the run is finished, but has no evaluation at budget.env_steps, {reached}"


def _problems_of_counts(where: str, task: Record, episodes: int) -> Iterator[str]:
    for count in ("successes", "final_step_successes"):
        if task[count] > task["episodes"]:
            yield f"{where}.{count}: {task[count]} is not between 0 and episodes, {task['episodes']}"
    if task["episodes"] != episodes:
        yield f"{where}.episodes: {task['episodes']} is not protocol.episodes_per_task, {episodes}"


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
