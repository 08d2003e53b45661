from __future__ import annotations

import math
import xml.dom.minidom
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtrl.leaderboard import figures, svg
from mtrl.leaderboard.outside import SHIPPED, read
from mtrl.leaderboard.runs import load
from mtrl.leaderboard.tables import Table, tables
from tests.helpers.records import make_record, write


@settings(deadline=None)
@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-6, 1e9), count=st.integers(2, 8))
def test_ticks_are_few_round_and_inside(low: float, width: float, count: int) -> None:
    found = svg.ticks(low, low + width, count)
    slack = 1e-6 * max(abs(low), width)
    assert all(low - slack <= value <= low + width + slack for value in found)
    assert len(found) <= count + 2


@given(text=st.text())
def test_escaped_text_is_valid_in_xml(text: str) -> None:
    body = f'<a b="{svg.escape(text)}">{svg.escape(text)}</a>'
    parsed = xml.dom.minidom.parseString(body.encode("utf-8")).documentElement
    assert parsed is not None
    assert "<" not in svg.escape(text)


def table_of(folder: Path, *records: dict) -> Table:
    for index, record in enumerate(records):
        write(folder / "in", record, f"{index}.json")
    (table,) = tables(load(folder / "in", folder / "out")[0])
    return table


def test_seeds_at_other_steps_are_interpolated(tmp_path: Path) -> None:
    table = table_of(
        tmp_path,
        make_record(seed=0, rates=[0.8] * 10, evaluations=2, env_steps=1200),
        make_record(seed=1, rates=[0.6] * 10, evaluations=3, env_steps=1200),
    )
    steps, hours, mean, half = figures.mean_curve(table.rows[0])
    assert steps.tolist() == [600, 800, 1200]
    assert mean.tolist() == pytest.approx([(0.4 + 0.3) / 2, (0.4 + 0.4 / 3 + 0.4) / 2, 0.7])
    assert hours.tolist() == pytest.approx([0.5, 2 / 3, 1.0])
    assert np.isnan(half).all()


def test_a_diverged_seed_falls_to_zero_after_its_last_evaluation(tmp_path: Path) -> None:
    records = [make_record(seed=seed, rates=[0.9] * 10) for seed in range(4)]
    table = table_of(
        tmp_path, *records, make_record(seed=4, rates=[0.9] * 10, status="diverged")
    )
    steps, _, mean, half = figures.mean_curve(table.rows[0])
    assert steps.tolist() == [1e6, 2e6, 3e6]
    assert mean[-1] == pytest.approx(4 * 0.9 / 5)
    assert mean[1] == pytest.approx(0.6)
    assert half[-1] > 0


def test_a_row_whose_seeds_all_diverged_at_once_is_zero(tmp_path: Path) -> None:
    table = table_of(tmp_path, make_record(status="diverged", evaluations=1))
    assert [part[0] for part in figures.mean_curve(table.rows[0])][:3] == [3e6, 0.0, 0.0]
    assert table.rows[0].headline.value == 0.0


def test_many_methods_and_long_curves_are_drawn_in_bounded_size(tmp_path: Path) -> None:
    records = [make_record(method=f"m{index}", evaluations=400) for index in range(30)]
    drawings = figures.figures(table_of(tmp_path, *records), read(SHIPPED))
    assert all(len(drawing) < 200_000 for _, drawing in drawings.values())
    assert "20 more" in drawings["curves-steps"][1]


def test_estimates_in_words() -> None:
    assert figures.estimate_text(figures.Estimate(0.5)) == "0.500"
    assert (
        figures.estimate_text(figures.Estimate(0.5, 0.25, 0.75), "+") == "+0.500 [+0.25, +0.75]"
    )
    assert figures.estimate_text(figures.Estimate(math.nan)) == "none"
