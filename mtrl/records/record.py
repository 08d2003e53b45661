"""What the result file of a run holds: frozen dataclasses whose fields are the JSON, nothing more and nothing less.

The published JSON schema is made from these classes (``schema.json_schema``), so a type, a range or a line of help
stands here and nowhere else. Counts, not rates: intervals and merges stay exact.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, with_config
from pydantic_core import PydanticCustomError, core_schema

SCHEMA_VERSION = 2
_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
Class = TypeVar("Class", bound=type)


def _part(cls: Class) -> Class:
    """Refuse unknown keys and numbers that JSON lacks, and put the fields' docstrings into the schema."""
    configured: Class = with_config(_CONFIG)(cls)
    return configured


@dataclass(frozen=True)
class _Checked:
    """A constraint with its words in JSON Schema.

    pydantic's own constraints on text refuse lone surrogates, which JSON allows and which readers here make harmless.
    """

    check: Callable[[Any], Any]
    schema: tuple[tuple[str, Any], ...]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return handler(schema) | dict(self.schema)


def _length(low: int, high: int) -> _Checked:
    """Characters of a text."""

    def check(text: str) -> str:
        if low <= len(text) <= high:
            return text
        raise PydanticCustomError(
            "length",
            f"has {len(text):,} characters; allowed are {low:,} to {high:,}",
        )

    return _Checked(check, (("minLength", low), ("maxLength", high)))


def _matching(pattern: str) -> _Checked:
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if compiled.search(text):
            return text
        raise PydanticCustomError("pattern", f"{{shown}} does not match {pattern}")

    return _Checked(check, (("pattern", pattern),))


def _not_empty(kind: str) -> _Checked:
    """At least one entry. pydantic's own constraint would count entries that are wrong as missing."""

    def check(entries: Any) -> Any:
        if entries:
            return entries
        raise PydanticCustomError("empty", "has 0 entries; at least 1 is needed")

    return _Checked(check, ((kind, 1),))


def _no_item_twice(items: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(items)) < len(items):
        raise PydanticCustomError("twice", "holds an item twice")
    return items


Text = Annotated[str, Field(strict=True)]
Name = Annotated[Text, _length(1, 200)]
Words = Annotated[Text, _length(0, 500)]
Short = Annotated[Text, _length(0, 200)]
Choice = Annotated[Text, _length(0, 1000)]
Command = Annotated[Text, _length(0, 20_000)]
Digest = Annotated[Text, _matching("^[0-9a-f]{64}$")]
Commit = Annotated[Text, _matching("^[0-9a-f]{7,64}$")]
Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=0, le=2**53 - 1)]
Small = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
Seconds = Annotated[float, Field(strict=True, ge=0, le=1e10)]


def _setting(value: Any) -> Any:
    """A setting's value: a text, number, truth value or null, or a list of them."""
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, str | int | float | bool | None):
            raise PydanticCustomError(
                "setting",
                "is {shown}, not a text, number, truth value or null, or a list of them",
            )
        if isinstance(item, str) and len(item) > 10_000:
            raise PydanticCustomError("setting", "holds a text of more than 10,000 characters")
        if isinstance(item, float) and not abs(item) < float("inf"):
            raise PydanticCustomError("setting", "{shown} is not finite")
    if isinstance(value, list) and len(value) > 10_000:
        raise PydanticCustomError("setting", "holds more than 10,000 items")
    return value


_PLAIN_TYPES = ["string", "number", "boolean", "null"]
_PLAIN = {"type": _PLAIN_TYPES, "maxLength": 10_000}
_SETTING = (
    ("type", [*_PLAIN_TYPES, "array"]),
    ("maxLength", 10_000),
    ("maxItems", 10_000),
    ("items", _PLAIN),
)


@_part
@dataclass(frozen=True)
class TaskResult:
    """Counts of one task in one evaluation: the sums stay exact, so intervals and merges do too."""

    successes: Count
    """Episodes that succeeded under the suite's rule."""
    final_step_successes: Count
    """Episodes whose success flag was true at their last step."""
    episodes: Small
    """Episodes counted."""
    return_mean: Annotated[float, Field(strict=True, ge=-1e15, le=1e15)]
    """Mean undiscounted return."""
    length_mean: Annotated[float, Field(strict=True, ge=0, le=1e6)]
    """Mean episode length, in steps."""

    @property
    def success_rate(self) -> float:
        return self.successes / self.episodes


@_part
@dataclass(frozen=True)
class Evaluation:
    """One evaluation."""

    env_steps: Count
    """Env steps taken so far, summed over tasks."""
    gradient_steps: Count
    """Gradient steps taken so far."""
    wall_s: Seconds
    """Seconds of training so far; of seeds that train in one process, each has its part of that process's seconds."""
    per_task: Annotated[
        dict[Text, TaskResult], Field(max_length=200), _not_empty("minProperties")
    ]
    """Tasks in the order of protocol.tasks."""


@_part
@dataclass(frozen=True)
class Protocol:
    """How the run was evaluated: numbers stand in one table only where this is equal."""

    suite: Name
    """Suite id."""
    tasks: Annotated[
        tuple[Name, ...],
        Field(max_length=200),
        _not_empty("minItems"),
        _Checked(_no_item_twice, (("uniqueItems", True),)),
    ]
    """Names of the tasks, in the order of the suite."""
    backend: Name
    """Engine of the environments."""
    reward_version: Name
    """Version of the rewards."""
    horizon: Small
    """Longest episode, in steps."""
    goals: Words
    """Where the variation of a task comes from."""
    goal_seed: Count | None
    """Seed of the goals or levels that were evaluated; null where it is not known."""
    distinct_levels: dict[Text, Small] | None
    """Different levels (or goals), by content, among the episodes of one evaluation, for each task; null before the
    first evaluation and where the backend cannot tell."""
    success: Name
    """Rule by which an episode counts as a success."""
    episodes_per_task: Small
    """Episodes of each task in one evaluation."""
    deterministic: Flag
    """Whether the policy acts without sampling."""
    eval_seed: Count | None
    """Evaluation seed that was asked for; null where the evaluation plays the run's own goals."""


@_part
@dataclass(frozen=True)
class Method:
    """What was trained."""

    name: Name
    """Name of the method."""
    agent: Name
    """Algorithm."""
    aggregator: Choice | None
    """Gradient method, with the settings that differ from its defaults."""
    curriculum: Choice | None
    """Curriculum, with the settings that differ from its defaults."""
    network: Choice
    """Architecture of the trunk."""
    heads: Choice | None
    """How outputs and tasks go together."""
    params: Annotated[
        dict[Annotated[Text, _length(0, 200)], Annotated[Any, _Checked(_setting, _SETTING)]],
        Field(max_length=2000),
    ]
    """Every setting by dotted key."""
    num_parameters: Count
    """Trained parameters, target networks not counted."""


@_part
@dataclass(frozen=True)
class Segment:
    """A planned total, which schedules follow from the step at which it was set."""

    env_steps: Count | None
    """Env steps that had been taken when the total was set; null where it is not known."""
    total_env_steps: Annotated[int, Field(strict=True, ge=1, le=2**53 - 1)]
    """The planned total, in env steps or, for an agent that learns from data only, in gradient steps."""


@_part
@dataclass(frozen=True)
class Budget:
    """What the run took, and what it was planned to take."""

    env_steps: Count
    """Env steps taken, summed over tasks."""
    gradient_steps: Count
    """Gradient steps taken."""
    segments: Annotated[tuple[Segment, ...], Field(max_length=10_000), _not_empty("minItems")]
    """Every planned total in order; more than one where a run was continued under another total."""


@_part
@dataclass(frozen=True)
class Provenance:
    """Where the numbers come from."""

    git_commit: Commit | None
    """Commit of the code; null where it ran from no checkout."""
    git_dirty: Flag | None
    """Whether tracked files outside the published results differed from the commit."""
    commands: Annotated[tuple[Command, ...], Field(max_length=10_000)]
    """Every command that trained the run, the first one first."""
    config_sha256: Digest
    """Digest of the settings."""
    packages: Annotated[dict[Annotated[Text, _length(0, 200)], Short], Field(max_length=1000)]
    """Versions of the packages that a result depends on."""
    python: Short
    """Version of Python."""
    os: Words
    """Operating system."""
    device: Short
    """Device of the agent."""
    cpu_count: Small
    """CPUs of the machine."""
    precision: Literal["bf16", "fp32"] | None
    """Number format of the trunk's matrix products, as resolved on the machine; null where it is not known."""


@_part
@dataclass(frozen=True)
class Result:
    """Result of one training run."""

    schema_version: Literal[2]
    """Version of this schema."""
    run_id: Name
    """Equal for equal configurations."""
    status: Literal["running", "finished", "failed", "diverged"]
    """What became of the run; ``running`` also where it was killed."""
    protocol: Protocol
    """How the run was evaluated."""
    method: Method
    """What was trained."""
    seed: Count
    """Seed of the run."""
    budget: Budget
    """What the run took."""
    evaluations: Annotated[tuple[Evaluation, ...], Field(max_length=10_000)]
    """Evaluations in order; the last one of a finished run is its result."""
    provenance: Provenance
    """Where the numbers come from."""
