"""The README is short, says what it always said, and its generated parts are those that results/ gives."""

from __future__ import annotations

import pytest

from mtrl.agents.aggregators.registry import AGGREGATORS
from mtrl.agents.curricula.registry import CURRICULA
from scripts.pages import readme
from scripts.pages.results import folder, places
from tests.docs.pages import DOCS

TEXT = readme.README.read_text(encoding="utf-8")


def test_it_is_short() -> None:
    assert len(TEXT.encode()) <= 9_000


def test_set_up_commands_are_the_ones_that_people_know() -> None:
    lines = TEXT.splitlines()
    first = "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/python -m mtrl.train mt10"
    second = 'python3 -m venv .venv && .venv/bin/pip install -e ".[dev]" && .venv/bin/python -m pytest'
    assert first in lines and second in lines


def test_generated_parts_are_up_to_date() -> None:
    """`python -m scripts.make_docs --readme` makes them anew."""
    assert readme.updated(TEXT) == TEXT
    for scheme, path in readme.PICTURES.items():
        assert path.read_text(encoding="utf-8") == readme.picture(scheme), path


def test_it_counts_methods_right() -> None:
    counts = (
        f"{len(AGGREGATORS.entries)} gradient methods and {len(CURRICULA.entries)} curricula"
    )
    assert counts in " ".join(TEXT.split())


def test_the_table_has_at_most_eight_rows() -> None:
    assert 4 <= len(readme.HEADLINES) <= 8


@pytest.mark.parametrize(
    ("row", "pages"),
    [
        ("mt10/10m/mtppo", "results guide/tips"),
        ("mt10/3m/mtppo", "results guide/tips"),
        ("mt10/3m/mtppo-paced", "guide/tips"),
        ("mt10/200k/mtppo-rollout-per-task-800-minibatches-8", "results aggregators curricula"),
        ("mt10/200k/mtppo-rollout-per-task-800-minibatches-8-fp32", "results"),
        ("mt10/200k/mtppo-nash-mtl-rollout-per-task-800-minibatches-8", "aggregators"),
        ("mt50/20m/mtppo", "results guide/tips"),
        ("mg3/600k/mtppo", "results"),
        ("mg7/1.4m/mtppo", "results"),
        ("mg7/350k/camrl-ppo", "curricula"),
        (
            "camrl-minigrid/315k/camrl-ppo-rollout-per-task-1000-minibatches-4-without-advantage-floor",
            "curricula",
        ),
    ],
)
def test_numbers_in_prose_are_those_of_the_results(row: str, pages: str) -> None:
    (found,) = [each for _, each in places() if str(folder(each)) == row]
    told = [f"{found.headline.value:.3f}", *(f"{mean:.3f}" for mean in found.seed_means)]
    for page in pages.split():
        text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
        assert told[0] in text or all(number in text for number in told[1:]), (page, told)
