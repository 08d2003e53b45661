"""The classes of a record say what an independent implementation of JSON Schema says of the schema made from them."""

from __future__ import annotations

import copy
import json
import time
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtrl.records.results import problems
from mtrl.records.schema import json_schema, schema_path, show, violations
from tests.helpers.records import make_record

SCHEMA = json.loads(schema_path().read_text(encoding="utf-8"))
REFERENCE = jsonschema.Draft202012Validator(SCHEMA)

PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 2**60), st.floats(-1e9, 1e9), st.text(max_size=5)
)  # fmt: skip
VALUES = st.recursive(
    PLAIN | st.sampled_from(["finished", "x" * 300, 1.0, 50, {}]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [path, *(place for key, item in inner for place in _places(item, (*path, key)))]


RECORD = make_record(evaluations=2)
PLACES = _places(RECORD)[1:]


def test_the_published_schema_is_that_of_the_classes() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert schema_path().read_text(encoding="utf-8") == json_schema()
    assert not violations(RECORD)
    assert len(PLACES) > 100


def test_ten_thousand_files_are_checked_in_seconds() -> None:
    record = make_record(evaluations=10)
    begun = time.process_time()  # a busy machine stretches the clock, not the work
    for _ in range(1000):
        assert not problems(record)
    assert 10 * (time.process_time() - begun) < 5


def agrees(value: Any) -> bool:
    """Whether both say the same; JSON Schema takes 2.0 for a whole number, and the classes do not."""
    valid = not violations(value)
    return valid == REFERENCE.is_valid(value) or (not valid and _holds_whole_float(value))


def _holds_whole_float(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(
            map(_holds_whole_float, value.values() if isinstance(value, dict) else value)
        )
    return isinstance(value, float) and value.is_integer()


@settings(deadline=None, max_examples=300)
@given(
    place=st.sampled_from(PLACES),
    value=VALUES,
    action=st.sampled_from(["replace", "remove", "add"]),
)
def test_agrees_with_jsonschema_about_damaged_records(
    place: tuple[Any, ...], value: Any, action: str
) -> None:
    record = copy.deepcopy(RECORD)
    inner: Any = record
    for key in place[:-1]:
        inner = inner[key]
    if action == "replace":
        inner[place[-1]] = value
    elif action == "remove":
        del inner[place[-1]]
    elif isinstance(inner, dict):
        inner["added"] = value
    else:
        inner.append(value)
    assert agrees(record), violations(record)


@settings(deadline=None, max_examples=100)
@given(value=VALUES)
def test_agrees_with_jsonschema_about_anything(value: Any) -> None:
    assert agrees(value)


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        (("seed",), True, ("seed", "is true, not a whole number")),
        (("seed",), 2.0, ("seed", "is 2.0, not a whole number")),
        (
            ("evaluations", 0, "wall_s"),
            float("inf"),
            ("evaluations[0].wall_s", "inf is not finite"),
        ),
        (("protocol", "tasks"), ["a", "a"], ("protocol.tasks", "holds an item twice")),
        (("protocol", "tasks"), [], ("protocol.tasks", "has 0 entries; at least 1 is needed")),
        (
            ("provenance", "cpu_count"),
            0,
            ("provenance.cpu_count", "0 is below the least allowed value, 1"),
        ),
        (
            ("provenance", "packages"),
            {"a b": 1},
            ("provenance.packages['a b']", "is 1, not a text"),
        ),
        (
            ("method", "params"),
            {"x" * 201: 1},
            (
                f"method.params['{'x' * 56}...]",
                "this name has 201 characters; allowed are 0 to 200",
            ),
        ),
        (
            ("method", "params", "a"),
            [float("nan")],
            ("method.params.a", "an array is not finite"),
        ),
        (
            ("method", "params", "a"),
            {},
            (
                "method.params.a",
                "is an object, not a text, number, truth value or null, or a list of them",
            ),
        ),
        (
            ("provenance", "config_sha256"),
            "0",
            ("provenance.config_sha256", "'0' does not match ^[0-9a-f]{64}$"),
        ),
        (("schema_version",), True, ("schema_version", "true is not 2")),
        (
            ("budget", "segments", 0, "total_env_steps"),
            0,
            (
                "budget.segments[0].total_env_steps",
                "0 is below the least allowed value, 1",
            ),
        ),
        (("provenance", "precision"), "tf32", ("provenance.precision", "'tf32' is not one of 'bf16', 'fp32'")),
    ],
)  # fmt: skip
def test_problems_carry_their_path(
    place: tuple[Any, ...], value: Any, problem: tuple[str, str]
) -> None:
    record = copy.deepcopy(RECORD)
    inner: Any = record
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    assert violations(record) == [problem]


def test_shown_values_are_short_and_cannot_steer_a_terminal() -> None:
    assert show("\x1b[2J\n‮") == r"'\x1b[2J\n\u202e'"
    assert len(show("<" * 10**6)) == 60
    assert show(10**400) == "a huge number"
