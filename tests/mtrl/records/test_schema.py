"""The compiled checks say what an independent implementation of JSON Schema says."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtrl.records.results import schema_path
from mtrl.records.schema import compile_schema, show
from tests.helpers.records import make_record

SCHEMA = json.loads(schema_path().read_text(encoding="utf-8"))
CHECK = compile_schema(SCHEMA)
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


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert not CHECK(RECORD)
    assert len(PLACES) > 100


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
    assert bool(CHECK(record)) != REFERENCE.is_valid(record), CHECK(record)


@settings(deadline=None, max_examples=100)
@given(value=VALUES)
def test_agrees_with_jsonschema_about_anything(value: Any) -> None:
    assert bool(CHECK(value)) != REFERENCE.is_valid(value)


@pytest.mark.parametrize(
    ("schema", "value", "problems"),
    [
        ({"type": "integer"}, True, [("", "is true, not a whole number")]),
        ({"type": "integer"}, 2.0, []),
        ({"type": "number"}, float("inf"), [("", "inf is not finite")]),
        (
            {"items": {"type": "integer"}, "uniqueItems": True},
            [1, 1],
            [("", "holds an item twice")],
        ),
        (
            {"items": {"items": {"maximum": 1}}},
            [[0], [1, 2]],
            [("[1][1]", "2 is above the greatest allowed value, 1")],
        ),
        ({"additionalProperties": {"type": "null"}}, {"a b": 1}, [("['a b']", "is 1, not null")]),
        (
            {"propertyNames": {"maxLength": 1}},
            {"ab": 1},
            [("ab", "this name has 2 characters; allowed are 0 to 1")],
        ),
        ({"const": 1}, True, [("", "true is not 1")]),
    ],
)
def test_problems_carry_their_path(
    schema: dict[str, Any], value: Any, problems: list[tuple[str, str]]
) -> None:
    assert list(compile_schema(schema)(value)) == problems


def test_unsupported_keywords_are_refused() -> None:
    with pytest.raises(ValueError, match="keyword 'anyOf' is not supported"):
        compile_schema({"items": {"anyOf": []}})


def test_shown_values_are_short_and_cannot_steer_a_terminal() -> None:
    assert show("\x1b[2J\n‮") == r"'\x1b[2J\n\u202e'"
    assert len(show("<" * 10**6)) == 60
    assert show(10**400) == "a huge number"
