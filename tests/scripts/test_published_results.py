"""The results in this repository: every one in today's form, in the place that its settings name."""

from __future__ import annotations

from pathlib import Path

from mtrl.leaderboard.files import find, is_other
from scripts.convert_results import plan

RESULTS = Path(__file__).resolve().parents[2] / "results"


def test_published_results_are_canonical_and_stand_where_their_settings_say() -> None:
    moves, count = plan(RESULTS)
    assert moves == []
    assert count == sum(not is_other(path) for path in find(RESULTS)) >= 167
