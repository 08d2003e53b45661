"""JSON Schema (draft 2020-12), the part our schemas use: compiled once, quick, every problem with its path.

A keyword outside that part is refused when the schema is compiled, so that nothing a schema says goes unchecked.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Problem = tuple[str, str]
"""Path from the value in question, and what is wrong there."""
Check = Callable[[Any], Sequence[Problem]]
"""Returns the problems of a value; empty if it is valid."""

_ANNOTATIONS = {"$schema", "$id", "$defs", "$comment", "title", "description"}
_TYPES: dict[str, tuple[str, tuple[type, ...]]] = {
    "object": ("an object", (dict,)),
    "array": ("an array", (list,)),
    "string": ("a text", (str,)),
    "integer": ("a whole number", (int,)),
    "number": ("a number", (int, float)),
    "boolean": ("true or false", (bool,)),
    "null": ("null", (type(None),)),
}
_WORDS = {dict: "an object", list: "an array", bool: "true or false", type(None): "null"}


def compile_schema(schema: Mapping[str, Any]) -> Check:
    """The check of a whole schema; its ``$defs`` may be used by ``$ref``.

    Raises:
        ValueError: the schema uses a keyword that is not supported.
    """
    return _compile(schema, schema.get("$defs", {}))


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


def _compile(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Check:
    if "$ref" in schema:
        return _compile(defs[schema["$ref"].removeprefix("#/$defs/")], defs)
    unknown = schema.keys() - _ANNOTATIONS - _KEYWORDS.keys()
    if unknown:
        raise ValueError(f"schema keyword {min(unknown)!r} is not supported")
    parts = [
        build(schema, defs) for names, build in _BUILDERS if any(name in schema for name in names)
    ]
    if not parts:
        return _anything
    # A value of the wrong type would only repeat itself in every other complaint.
    check = parts[0] if len(parts) == 1 else _both(parts[0], _all(parts[1:]))
    return (
        _quick_number(schema, check)
        if schema.keys() - _ANNOTATIONS <= {"type", "minimum", "maximum"}
        else check
    )


def _both(first: Check, second: Check) -> Check:
    return lambda value: first(value) or second(value)


def _all(parts: Sequence[Check]) -> Check:
    return (
        parts[0]
        if len(parts) == 1
        else lambda value: [problem for part in parts for problem in part(value)]
    )


def _quick_number(schema: Mapping[str, Any], check: Check) -> Check:
    """``check`` behind one test that valid numbers pass: most of a result file is numbers."""
    if schema.get("type") not in ("integer", "number"):
        return check
    kinds = frozenset(_TYPES[schema["type"]][1])
    largest = (
        sys.float_info.max
    )  # leaves infinities to the full check; comparisons with NaN are false
    low, high = schema.get("minimum", -largest), schema.get("maximum", largest)
    return lambda value: () if type(value) in kinds and low <= value <= high else check(value)


def _anything(value: Any) -> Sequence[Problem]:
    return ()


def _unwanted(value: Any) -> Sequence[Problem]:
    return [("", "is not part of the schema")]


def _kind(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Check:
    names = [schema["type"]] if isinstance(schema["type"], str) else list(schema["type"])
    allowed = frozenset(kind for name in names for kind in _TYPES[name][1])
    whole = "integer" in names and float not in allowed
    words = " or ".join(_TYPES[name][0] for name in names)

    def check(value: Any) -> Sequence[Problem]:
        kind = type(value)
        if kind in allowed:
            return (
                [("", f"{value} is not finite")]
                if kind is float and not math.isfinite(value)
                else ()
            )
        if whole and kind is float and value.is_integer():
            return ()
        return [("", f"is {show(value)}, not {words}")]

    return check


def _choice(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Check:
    choices = schema["enum"] if "enum" in schema else [schema["const"]]
    words = f"one of {', '.join(map(str, choices))}" if len(choices) > 1 else str(choices[0])

    def check(value: Any) -> Sequence[Problem]:
        # 1 == True in Python, not in JSON.
        same = any(
            value == choice and isinstance(value, bool) == isinstance(choice, bool)
            for choice in choices
        )
        return () if same else [("", f"{show(value)} is not {words}")]

    return check


def _range(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Check:
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)

    def check(value: Any) -> Sequence[Problem]:
        if not isinstance(value, int | float) or isinstance(value, bool) or low <= value <= high:
            return ()
        bound = (
            f"below the least allowed value, {low}"
            if value < low
            else f"above the greatest allowed value, {high}"
        )
        return [("", f"{show(value)} is {bound}")]

    return check


def _text(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Check:
    low, high = schema.get("minLength", 0), schema.get("maxLength", math.inf)
    pattern = re.compile(schema["pattern"]) if "pattern" in schema else None

    def check(value: Any) -> Sequence[Problem]:
        if not isinstance(value, str):
            return ()
        if not low <= len(value) <= high:
            return [("", f"has {len(value):,} characters; allowed are {low:,} to {high:,}")]
        return (
            [("", f"{show(value)} does not match {pattern.pattern}")]
            if pattern and not pattern.search(value)
            else ()
        )

    return check


def _array(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Check:
    low, high = schema.get("minItems", 0), schema.get("maxItems", math.inf)
    item = _compile(schema["items"], defs) if "items" in schema else None
    unique = schema.get("uniqueItems", False)

    def check(value: Any) -> Sequence[Problem]:
        if not isinstance(value, list):
            return ()
        if not low <= len(value) <= high:
            return [("", f"has {len(value):,} items; allowed are {low:,} to {high:,}")]
        problems: list[Problem] = []
        for index, entry in enumerate(value) if item else ():
            problems += [(join(index, path), text) for path, text in item(entry)] if item else ()
        if (
            unique
            and not problems
            and len({json.dumps(entry, sort_keys=True) for entry in value}) < len(value)
        ):
            problems.append(("", "holds an item twice"))
        return problems

    return check


def _object(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Check:
    fields = {name: _compile(part, defs) for name, part in schema.get("properties", {}).items()}
    order = schema.get("required", ())
    required = frozenset(order)
    more = schema.get("additionalProperties", True)
    if isinstance(more, dict):
        others = _compile(more, defs)
    elif more:
        others = _anything
    else:
        others = _unwanted
    naming = _compile(schema["propertyNames"], defs) if "propertyNames" in schema else None
    low, high = schema.get("minProperties", 0), schema.get("maxProperties", math.inf)

    def check(value: Any) -> Sequence[Problem]:
        if not isinstance(value, dict):
            return ()
        if not low <= len(value) <= high:
            return [("", f"has {len(value):,} entries; allowed are {low:,} to {high:,}")]
        problems: list[Problem] = []
        if not required <= value.keys():
            problems = [(join(name, ""), "is missing") for name in order if name not in value]
        for name, entry in value.items():
            inner = fields.get(name, others)
            found = inner(entry)
            if naming:
                found = [("", f"this name {text}") for _, text in naming(name)] or found
            if found:
                problems += [(join(name, path), text) for path, text in found]
        return problems

    return check


_BUILDERS: tuple[
    tuple[tuple[str, ...], Callable[[Mapping[str, Any], Mapping[str, Any]], Check]], ...
] = (
    (("type",), _kind),
    (("const", "enum"), _choice),
    (("minimum", "maximum"), _range),
    (("minLength", "maxLength", "pattern"), _text),
    (("items", "minItems", "maxItems", "uniqueItems"), _array),
    (
        (
            "properties",
            "required",
            "additionalProperties",
            "propertyNames",
            "minProperties",
            "maxProperties",
        ),
        _object,
    ),
)
_KEYWORDS = {name: build for names, build in _BUILDERS for name in names}
