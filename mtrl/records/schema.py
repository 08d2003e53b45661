"""The check of result files against the classes in ``record``, its sentences, and the JSON schema made from them."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from mtrl.records.record import SCHEMA_VERSION, Result

Problem = tuple[str, str]
"""Path of the value in question, and what is wrong there."""

_WORDS = {dict: "an object", list: "an array", bool: "true or false", type(None): "null"}
_KINDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a text",
    "bool_type": "true or false",
    "dataclass_type": "an object",
    "dict_type": "an object",
    "tuple_type": "an array",
}
"""pydantic's names for a value of the wrong type, and what was expected."""


@cache
def _adapter() -> TypeAdapter[Result]:
    return TypeAdapter(Result)


def violations(value: Any) -> list[Problem]:
    """Where a value read from JSON does not follow the classes; empty if it does."""
    try:
        _adapter().validate_python(value)
    except ValidationError as error:
        return [_problem(detail) for detail in error.errors(include_url=False)]
    return []


def _problem(detail: ErrorDetails) -> Problem:
    place = list(detail["loc"])
    text = _sentence(detail)
    if place and place[-1] == "[key]":
        place.pop()
        text = f"this name {text}"
    path = ""
    for key in reversed(place):
        path = join(key, path)
    return path, text


def _sentence(detail: ErrorDetails) -> str:
    """The fault of a value, in words that follow its path."""
    kind, value, about = detail["type"], detail["input"], detail.get("ctx", {})
    if kind in ("missing", "missing_argument"):
        return "is missing"
    if kind == "unexpected_keyword_argument":
        return "is not part of the schema"
    if kind in _KINDS:
        return f"is {show(value)}, not {_KINDS[kind]}"
    if kind == "literal_error":
        allowed = about["expected"].replace(" or ", ", ")
        return f"{show(value)} is not {'one of ' if ',' in allowed else ''}{allowed}"
    if kind == "finite_number":
        return f"{value} is not finite"
    if kind == "greater_than_equal":
        return f"{show(value)} is below the least allowed value, {about['ge']}"
    if kind == "less_than_equal":
        return f"{show(value)} is above the greatest allowed value, {about['le']}"
    if kind == "too_long":
        return f"has {len(value):,} entries; at most {about['max_length']:,} are allowed"
    return detail["msg"].replace("{shown}", show(value))


def show(value: Any, limit: int = 60) -> str:
    """A value of a file, short and safe to print: nothing in it can move a terminal's cursor."""
    if type(value) in _WORDS:
        return _WORDS[type(value)] if not isinstance(value, bool) else str(value).lower()
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a huge number"
    text = ascii(value[: limit + 1]) if isinstance(value, str) else repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def join(key: str | int, path: str) -> str:
    """``path`` below ``key``: ``a.b[0]``, with unusual keys quoted."""
    if isinstance(key, int):
        head = f"[{key}]"
    else:
        head = key if re.fullmatch(r"[\w-]{1,80}", key, re.ASCII) else f"[{show(key)}]"
    return head + path if not path or path.startswith("[") else f"{head}.{path}"


def json_schema() -> str:
    """The JSON schema (draft 2020-12) of a result file, as it is published in ``schemas/``."""
    about = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": schema_path().name,
        "title": f"Result of one training run, version {SCHEMA_VERSION}",
        "description": "Beyond this schema: per_task holds protocol.tasks in their order, counts of successes do not "
        "exceed episodes, env_steps rise from one evaluation to the next, planned totals stand in the order in which "
        "they were set, and a finished run ends with an evaluation at budget.env_steps.",
    }
    made = _adapter().json_schema()
    return json.dumps(made | about, indent=1, ensure_ascii=False) + "\n"


def schema_path() -> Path:
    """The published JSON schema; ``python -m mtrl.records.schema`` writes it anew."""
    return Path(__file__).parent / "schemas" / f"result-{SCHEMA_VERSION}.json"


if __name__ == "__main__":
    schema_path().write_text(json_schema(), encoding="utf-8")
