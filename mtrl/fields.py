"""Frozen dataclasses as flat dotted keys: list them, read values into them, write them out again."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import itertools
import re
import textwrap
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mtrl.errors import ConfigError

T = TypeVar("T")
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_NAMES: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


@dataclasses.dataclass(frozen=True)
class Setting:
    """One leaf of a configuration: its dotted key, type, default and one-line explanation."""

    key: str
    hint: Any
    default: Any
    doc: str


def settings_of(cls: type, types_of: Mapping[str, type] | None = None, prefix: str = "") -> dict[str, Setting]:
    """Every setting of ``cls``, nested dataclasses included, in order.

    Args:
        types_of: the concrete dataclass of fields declared with a base class, by field name.
    """
    found: dict[str, Setting] = {}
    hints, docs = get_type_hints(cls), _field_docs(cls)
    for field in dataclasses.fields(cls):
        hint = (types_of or {}).get(field.name, hints[field.name])
        if dataclasses.is_dataclass(hint):
            assert isinstance(hint, type)
            found |= settings_of(hint, prefix=f"{prefix}{field.name}.")
            continue
        default = field.default_factory() if callable(field.default_factory) else field.default
        key = prefix + field.name
        found[key] = Setting(key, hint, default, docs.get(field.name, ""))
    return found


def build(cls: type[T], values: Mapping[str, Any], types_of: Mapping[str, type] | None = None, prefix: str = "") -> T:
    """Make ``cls`` from flat values that are already of the right types; what is left out takes its default."""
    arguments: dict[str, Any] = {}
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        hint = (types_of or {}).get(field.name, hints[field.name])
        key = prefix + field.name
        if dataclasses.is_dataclass(hint):
            assert isinstance(hint, type)
            arguments[field.name] = build(hint, values, prefix=f"{key}.")
        elif key in values:
            arguments[field.name] = values[key]
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{key}: no value given, and there is no default")
    return cls(**arguments)


def flatten(instance: Any, prefix: str = "") -> dict[str, Any]:
    """The values of a dataclass by dotted key; tuples become lists, as in YAML and JSON."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        key = prefix + field.name
        if dataclasses.is_dataclass(value):
            flat |= flatten(value, f"{key}.")
        else:
            flat[key] = list(value) if isinstance(value, tuple) else value
    return flat


def coerce(key: str, value: Any, hint: Any) -> Any:
    """``value`` (from YAML, or text from the command line) as ``hint``.

    Raises:
        ConfigError: naming the key, the value and what is allowed.
    """
    try:
        return _coerce(value, hint)
    except (ValueError, TypeError):
        shown = value if not isinstance(value, str) else repr(value)
        raise ConfigError(f"{key}: {shown} is not {describe(hint)}") from None


def _coerce(value: Any, hint: Any) -> Any:
    origin, members = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _coerce_union(value, members)
    if origin is Literal:
        return next(choice for choice in members if str(choice) == str(value)) if _listed(value, members) else _bad()
    if origin is tuple:
        items = re.split(r"[\s,]+", value.strip(" []()")) if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            _bad()
        items = [item for item in items if item != ""]
        kinds = [members[0]] * len(items) if members[-1] is Ellipsis else list(members)
        return tuple(_coerce(item, kind) for item, kind in zip(items, kinds, strict=True))
    if hint is bool:
        return value if isinstance(value, bool) else _boolean(str(value))
    if isinstance(value, bool):
        _bad()
    if hint is int:
        return _whole(value)
    if hint is float:
        return float(value)
    if hint is str:
        return value if isinstance(value, str) else _bad()
    raise NotImplementedError(f"settings of type {hint} are not supported")


def _coerce_union(value: Any, members: tuple[Any, ...]) -> Any:
    if type(None) in members and (value is None or str(value).lower() in ("none", "null")):
        return None
    for member in members:
        if member is not type(None):
            try:
                return _coerce(value, member)
            except (ValueError, TypeError):
                continue
    return _bad()


def _listed(value: Any, choices: tuple[Any, ...]) -> bool:
    return str(value) in map(str, choices)


def _boolean(text: str) -> bool:
    if text.lower() not in _TRUE + _FALSE:
        _bad()
    return text.lower() in _TRUE


def _whole(value: Any) -> int:
    if isinstance(value, int):
        return value
    try:
        return int(str(value))
    except ValueError:
        number = float(value)  # 2e6 is a whole number too, and PyYAML reads it as text
        return int(number) if number.is_integer() else _bad()


def _bad() -> Any:
    raise ValueError


def describe(hint: Any) -> str:
    """A type in words, for messages and for the help text."""
    origin, members = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join("none" if member is type(None) else describe(member) for member in members)
    if origin is Literal:
        return "one of " + ", ".join(map(str, members)) if len(members) > 1 else str(members[0])
    if origin is tuple:
        return f"a comma-separated list, each {describe(members[0])}"
    return _NAMES.get(hint, str(hint))


def nearest(key: str, known: Iterable[str]) -> str | None:
    """The known key most like ``key``: the one with the same last part, else the most similar spelling."""
    known = list(known)
    same_tail = [candidate for candidate in known if candidate.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
    if same_tail:
        return min(same_tail, key=len)
    tails = {candidate.rsplit(".", 1)[-1]: candidate for candidate in reversed(known)}
    close = difflib.get_close_matches(key, known, 1, 0.6) or [
        tails[tail] for tail in difflib.get_close_matches(key.rsplit(".", 1)[-1], tails, 1, 0.5)
    ]
    return close[0] if close else None


def _field_docs(cls: type) -> dict[str, str]:
    """The string that follows each field in the source, inherited fields included."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in itertools.pairwise(body.body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                value = text.value if isinstance(text, ast.Expr) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    docs[field.target.id] = " ".join(value.value.split())
    return docs
