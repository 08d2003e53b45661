"""Settings by flat dotted keys, as YAML, the command line and records write them, and as nested mappings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mtrl.agents.settings import Schema, allows_none, parts

Flat = dict[str, Any]


def nested(flat: Flat, known: Mapping[str, Schema]) -> dict[str, Any]:
    """Flat values as a nested mapping; beside settings of its own, the short form of a choice is its ``kind``.

    Args:
        known: the JSON schema of every setting by dotted key.
    """
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *path, name = key.split(".")
        place = tree
        for part in path:
            held = place.setdefault(part, {})
            if not isinstance(held, dict):
                place[part] = {"kind": held}
            place = place[part]
        read = _read(value, known.get(key, {}))
        if isinstance(place.get(name), dict):
            place[name].setdefault("kind", read)
        else:
            place[name] = read
    return tree


def _read(value: Any, schema: Schema) -> Any:
    """What pydantic does not read from text: none, and lists."""
    if not isinstance(value, str):
        return value
    if allows_none(schema) and value.lower() in ("none", "null"):
        return None
    is_list = any("items" in part for part in parts(schema))
    return re.findall(r"[^\s,\[\]()]+", value) if is_list else value


def flatten(values: Mapping[str, Any], prefix: str = "") -> Flat:
    """Nested values by dotted key."""
    flat: Flat = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
