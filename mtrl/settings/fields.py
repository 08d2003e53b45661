"""Frozen dataclasses as flat dotted keys: list them, read values into them, write them out again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from mtrl.agents.errors import AgentError
from mtrl.agents.settings import Choice, Setting, at, bare, is_none, leaves, read_value, registry_of
from mtrl.errors import ConfigError

T = TypeVar("T")
Flat = dict[str, Any]


def settings_of(
    cls: type, types_of: Mapping[str, type] | None = None, prefix: str = ""
) -> dict[str, Setting]:
    """Every setting of ``cls``, nested dataclasses included, in order. A choice is one setting.

    Args:
        types_of: the concrete dataclass of fields declared with a base class, by field name.
    """
    found: dict[str, Setting] = {}
    for leaf in leaves(cls):
        kind = (types_of or {}).get(leaf.key, bare(leaf.hint))
        if dataclasses.is_dataclass(kind) and registry_of(leaf.hint) is None:
            assert isinstance(kind, type)
            found |= settings_of(kind, prefix=f"{prefix}{leaf.key}.")
        else:
            found[prefix + leaf.key] = dataclasses.replace(leaf, key=prefix + leaf.key)
    return found


def choice_of(key: str, settings: Mapping[str, Setting]) -> str | None:
    """The setting whose choice the dotted ``key`` belongs to, as in ``agent.aggregator.c``; None for other keys."""
    parts = key.split(".")
    for end in range(len(parts) - 1, 0, -1):
        head = ".".join(parts[:end])
        if head in settings and registry_of(settings[head].hint) is not None:
            return head
    return None


def read_choice(key: str, given: Flat, setting: Setting, origin: str = "") -> Choice | None:
    """The choice that ``given`` describes.

    Args:
        given: ``""`` holds the short form, ``kind`` and names of settings what stands behind the dot.

    Raises:
        ConfigError: an unknown name or setting, with the nearest right one, or a value that is not allowed.
    """
    registry = registry_of(setting.hint)
    assert registry is not None
    whole = given.get("", setting.default)
    if is_none(whole, setting.hint):
        whole = None
    parts = {name: value for name, value in given.items() if name}
    if whole is None and not parts:
        return None
    try:
        base = {} if whole is None else registry.given(whole)
        kind = parts.get("kind", base.get("kind"))
        if kind is None:
            raise AgentError(f"{key}.kind: none given; the choices are {', '.join(registry)}")
        merged = base | parts if kind == base.get("kind") else dict(parts)
        return registry.choice(merged | {"kind": kind})
    except AgentError as error:
        raise ConfigError(origin + at(key, error, setting.hint)) from None


def coerce(key: str, value: Any, hint: Any) -> Any:
    """``value`` (from YAML, or text from the command line) as ``hint``.

    Raises:
        ConfigError: naming the key, the value and what is allowed.
    """
    try:
        return read_value(key, value, hint)
    except AgentError as error:
        raise ConfigError(str(error)) from None


def build(
    cls: type[T], values: Flat, types_of: Mapping[str, type] | None = None, prefix: str = ""
) -> T:
    """Make ``cls`` from flat values of the right types; what is left out takes its default.

    Raises:
        ConfigError: a value is missing, or values do not go together.
    """
    arguments: Flat = {}
    for leaf in leaves(cls):
        kind = (types_of or {}).get(leaf.key, bare(leaf.hint))
        key = prefix + leaf.key
        if dataclasses.is_dataclass(kind) and registry_of(leaf.hint) is None:
            assert isinstance(kind, type)
            arguments[leaf.key] = build(kind, values, prefix=f"{key}.")
        elif key in values:
            arguments[leaf.key] = values[key]
        elif leaf.default is dataclasses.MISSING:
            raise ConfigError(f"{key}: no value given, and there is no default")
    try:
        return cls(**arguments)
    except AgentError as error:
        raise ConfigError(f"{prefix}{error}") from None


def flatten(instance: Any, prefix: str = "") -> Flat:
    """The values of a dataclass by dotted key; a choice by ``kind`` and its settings; tuples as lists, as in YAML."""
    flat: Flat = {}
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        key = prefix + field.name
        if isinstance(value, Choice):
            flat |= {f"{key}.{name}": part for name, part in value.flat().items()}
        elif dataclasses.is_dataclass(value):
            flat |= flatten(value, f"{key}.")
        else:
            flat[key] = list(value) if isinstance(value, tuple) else value
    return flat
