"""The committed table of the full comparison with stock, and the slow tests that make it again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mtrl.envs.metaworld.suites import MT50
from tests.envs.metaworld.native.sweep import POLICIES, compare, first_successes, is_exact

TABLE = Path(__file__).parents[4] / "results" / "fidelity_native.json"


def test_the_committed_table_finds_no_task_that_differs() -> None:
    table = json.loads(TABLE.read_text())
    assert sorted(table) == sorted(MT50)
    for name, row in table.items():
        assert row["exact"] and row["same_success_steps"], name
        counts = row["scripted_successes_of_50"]
        assert counts["native"] == counts["stock"] >= 40, name


@pytest.mark.slow
@pytest.mark.parametrize("kind", POLICIES)
@pytest.mark.parametrize("name", MT50)
def test_three_episodes_on_three_goals_equal_stock(name: str, kind: str) -> None:
    gaps = compare(name, kind)
    assert is_exact(gaps), gaps


@pytest.mark.slow
@pytest.mark.parametrize("name", MT50)
def test_scripted_policies_succeed_at_the_very_same_steps(name: str) -> None:
    native, stock = first_successes(name)
    assert native == stock
