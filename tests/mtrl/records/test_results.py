from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtrl.errors import ResultError
from mtrl.records.results import (
    method_of,
    new_record,
    problems,
    read_result,
    success_mean,
    validate,
    write_result,
)
from mtrl.settings.presets import resolve
from tests.helpers.fakes import SUITES
from tests.mtrl.conftest import ShortConfig

Record = dict[str, Any]


@pytest.fixture
def record(short_config: ShortConfig) -> Record:
    record = new_record(
        short_config(),
        SUITES["mt10:fake"],
        "fake",
        3,
        goal_seed=0,
        device="cpu",
        precision="fp32",
        command="python -m mtrl.train mt10:fake",
    )
    task = {
        "successes": 1,
        "final_step_successes": 0,
        "episodes": 4,
        "return_mean": 1.5,
        "length_mean": 20.0,
    }
    per_task = {f"task-{index}": task | {"successes": index} for index in (0, 2, 1)}
    record["evaluations"].append(
        {"env_steps": 10, "gradient_steps": 0, "wall_s": 0.5, "per_task": per_task}
    )
    record["budget"]["env_steps"] = 10
    return record


def test_new_record_has_exactly_the_fields_of_the_protocol(record: Record) -> None:
    assert validate(record) is record
    assert (record["method"]["network"], record["method"]["heads"]) == ("mlp", "multi-head")
    assert record["budget"]["segments"] == [{"env_steps": 0, "total_env_steps": 600}]
    assert record["provenance"]["commands"] == ["python -m mtrl.train mt10:fake"]
    assert record["method"]["params"]["agent.widths"] == [8, 8]
    assert "run_dir" not in record["method"]["params"]
    assert record["provenance"]["packages"]["torch"]
    assert len(record["provenance"]["config_sha256"]) == 64


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({}, ("mean", "uniform", "mlp", "multi-head")),
        (
            {"agent.aggregator": "cagrad:c=0.9,every=4"},
            ("cagrad:c=0.9,every=4", "uniform", "mlp", "multi-head"),
        ),
        (
            {"method": "camrl-ppo", "agent.curriculum.warmup": 5},
            ("mean", "camrl:warmup=5", "mlp", "separate"),
        ),
        ({"method": "sb3-ppo"}, (None, None, "mlp", None)),
    ],
)
def test_a_record_names_choices_in_their_short_form(
    given: Record, parts: tuple[str | None, ...]
) -> None:
    method = method_of(resolve({"suite": "mt10", **given}).flat())
    assert (
        tuple(method[key] for key in ("aggregator", "curriculum", "network", "heads")) == parts
    )


def test_success_mean_is_unweighted_over_tasks(record: Record) -> None:
    per_task = record["evaluations"][0]["per_task"]
    per_task["task-0"] |= {"successes": 1, "episodes": 1}
    assert success_mean(per_task) == pytest.approx((1 + 0.25 + 0.5) / 3)


def _set(*path: Any) -> Callable[[Record], None]:
    *outer, last, value = path

    def change(record: Record) -> None:
        inner: Any = record
        for key in outer:
            inner = inner[key]
        if value is KeyError:
            del inner[last]
        else:
            inner[last] = value

    return change


SEGMENT = {"env_steps": 0, "total_env_steps": 600}
TASK = ("evaluations", 0, "per_task", "task-1")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("seed", KeyError), "seed: is missing"),
        (_set("extra", 1), "extra: is not part of the schema"),
        (_set("schema_version", 1), "schema_version: 1 is not supported"),
        (_set("status", "done"), "status: 'done' is not one of"),
        (_set("seed", "0"), "seed: is '0', not a whole number"),
        (_set("seed", True), "seed: is true, not a whole number"),
        (_set("protocol", "horizon", KeyError), "protocol.horizon: is missing"),
        (_set("method", []), "method: is an array, not an object"),
        (_set("provenance", "git_commit", 3), "provenance.git_commit"),
        (_set(*TASK, "successes", 5), "task-1.successes: 5 is not between 0 and episodes, 4"),
        (_set(*TASK, "final_step_successes", -1), "final_step_successes: -1"),
        (_set(*TASK, "episodes", 0), "task-1.episodes: 0 is below the least allowed value, 1"),
        (_set(*TASK, "return_mean", float("nan")), "task-1.return_mean: nan is not finite"),
        (
            _set("evaluations", 0, "per_task", "task-1", KeyError),
            "per_task: the tasks are not those",
        ),
        (
            _set("evaluations", 0, "per_task", {}),
            "per_task: has 0 entries; at least 1 is needed",
        ),
        (
            _set("schema_version", KeyError),
            "schema_version: is missing; this version of mtrl reads 2",
        ),
        (
            _set("method", "params", "agent.x", {"a": 1}),
            "method.params['agent.x']: is an object, not a text, number",
        ),
        (
            _set("provenance", "cpu_count", 10**30),
            "provenance.cpu_count: a huge number is above",
        ),
        (_set("run_id", "x" * 300), "run_id: has 300 characters; allowed are 1 to 200"),
        (
            _set("protocol", "episodes_per_task", 5),
            "task-0.episodes: 4 is not protocol.episodes_per_task, 5",
        ),
        (
            _set("protocol", "distinct_levels", {"task-0": 1}),
            "protocol.distinct_levels: the tasks are not those of protocol.tasks",
        ),
        (
            _set("protocol", "distinct_levels", {"task-0": 5, "task-2": 1, "task-1": 1}),
            "protocol.distinct_levels.task-0: 5 is more than protocol.episodes_per_task, 4",
        ),
        (
            _set("budget", "segments", []),
            "budget.segments: has 0 entries; at least 1 is needed",
        ),
        (
            _set("budget", "segments", 0, "env_steps", 3),
            "budget.segments[0].env_steps: 3 is not 0, where a run starts",
        ),
        (
            _set("budget", "segments", [SEGMENT, SEGMENT]),
            "budget.segments[1].env_steps: 0 does not come after 0",
        ),
        (
            _set("budget", "segments", [SEGMENT, SEGMENT | {"env_steps": None}]),
            "budget.segments[1].env_steps: is null, which only the first may be",
        ),
        (
            _set("budget", "env_steps", 9),
            "budget.env_steps: 9 is less than the last evaluation's, 10",
        ),
    ],
)
def test_violations_name_the_field(
    record: Record, change: Callable[[Record], None], words: str, tmp_path: Path
) -> None:
    change(record)
    with pytest.raises(ResultError) as caught:
        validate(record)
    assert words in str(caught.value)
    with pytest.raises(ResultError):
        write_result(tmp_path / "result.json", record)
    assert list(tmp_path.iterdir()) == []


def test_evaluations_are_in_order(record: Record) -> None:
    record["evaluations"].append(copy.deepcopy(record["evaluations"][0]))
    with pytest.raises(
        ResultError, match=r"evaluations\[1\].env_steps: 10 does not come after 10"
    ):
        validate(record)


def test_costs_never_fall(record: Record) -> None:
    record["evaluations"].append(
        copy.deepcopy(record["evaluations"][0]) | {"env_steps": 20, "wall_s": 0.25}
    )
    record["budget"]["env_steps"] = 20
    with pytest.raises(ResultError, match=r"evaluations\[1\].wall_s: 0.25 is less than 0.5"):
        validate(record)


def test_a_finished_run_ends_with_an_evaluation(record: Record) -> None:
    record["status"] = "finished"
    assert problems(record) == []
    record["budget"]["env_steps"] = 11
    assert problems(record) == [
        "status: the run is finished, but has no evaluation at budget.env_steps, 11"
    ]


def test_every_problem_is_listed(record: Record) -> None:
    record["seed"], record["budget"]["env_steps"] = -1, "many"
    assert [problem.partition(":")[0] for problem in problems(record)] == [
        "seed",
        "budget.env_steps",
    ]


def test_write_and_read(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_result(path, record)
    assert read_result(path) == record
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


def test_unreadable_files_are_named(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    with pytest.raises(ResultError, match="cannot be read"):
        read_result(path)
    path.write_text(json.dumps(record)[:-20])
    with pytest.raises(ResultError, match="truncated or not JSON"):
        read_result(path)
    path.write_text("[]")
    with pytest.raises(ResultError, match=r"result.json: record: is an array, not an object"):
        read_result(path)
