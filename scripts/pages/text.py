"""Markdown that every generated page is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mtrl.agents.settings import Choice, Setting, as_text, describe

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; bars inside cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def code(value: object) -> str:
    """``value`` in backticks."""
    return f"`{value}`"


def bare_task(name: str) -> str:
    """The task's name without Meta-World's version suffix, for narrow tables."""
    return name.removesuffix("-v3")


def settings_table(
    known: Mapping[str, Setting], values: Mapping[str, Any] | None = None
) -> str:
    """A table of settings: name, default (or the value in ``values``), allowed values, description.

    Args:
        known: by name.
    """
    rows = []
    for name, setting in known.items():
        value = (values or {}).get(name, setting.default)
        shown = value.kind if isinstance(value, Choice) else value
        rows.append([code(name), code(as_text(shown)), describe(setting.hint), setting.about])
    return table(["setting", "default", "allowed", "what it does"], rows)
