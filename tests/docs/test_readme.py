"""The README is short, says what it always said, and its generated parts are those that results/ gives."""

from __future__ import annotations

from scripts.pages import readme

TEXT = readme.README.read_text(encoding="utf-8")


def test_it_is_short() -> None:
    assert len(TEXT.encode()) <= 9_000


def test_set_up_commands_are_the_ones_that_people_know() -> None:
    lines = TEXT.splitlines()
    first = (
        "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/python -m mtrl.train mt10"
    )
    second = (
        'python3 -m venv .venv && .venv/bin/pip install -e ".[dev]" && .venv/bin/python -m pytest'
    )
    assert first in lines and second in lines


def test_generated_parts_are_up_to_date() -> None:
    """`python -m scripts.make_docs --readme` makes them anew."""
    assert readme.updated(TEXT) == TEXT
    for scheme, path in readme.PICTURES.items():
        assert path.read_text(encoding="utf-8") == readme.picture(scheme), path


def test_the_table_has_at_most_eight_rows() -> None:
    assert 4 <= len(readme.HEADLINES) <= 8
