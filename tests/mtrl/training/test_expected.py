"""The estimate of how long a training takes."""

from __future__ import annotations

import pytest

from mtrl.training.expected import ExpectedTime, duration


def test_it_counts_from_the_second_call_with_an_update() -> None:
    time = ExpectedTime(total=100_000, unit="env steps")
    assert time.add(3.0, 30_000, updated=False, progress=30_000) is None  # collects only
    assert time.add(5.0, 500, updated=True, progress=30_500) is None  # warms up
    assert time.add(6.0, 600, updated=True, progress=31_100) is None
    assert time.add(6.0, 900, updated=True, progress=32_000) == (
        "about 9 min left at 125 env steps/s, measured over 12 s; evaluations come on top"
    )
    assert time.add(9.0, 900, updated=True, progress=32_900) is None  # said once


def test_one_long_call_is_enough() -> None:
    time = ExpectedTime(total=10_000_000, unit="gradient steps")
    assert time.add(90.0, 50_000, updated=True, progress=50_000) is None  # may compile
    assert time.add(40.0, 100_000, updated=True, progress=100_000) == (
        "about 1 h 6 min left at 2,500 gradient steps/s, measured over 40 s; evaluations come on top"
    )


def test_nothing_is_said_of_a_training_that_is_over() -> None:
    time = ExpectedTime(100, "env steps")
    assert time.add(1.0, 50, updated=True, progress=50) is None
    assert time.add(40.0, 50, updated=True, progress=100) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (89, "89 s"),
        (91, "2 min"),
        (3_580, "1 h"),
        (6_610, "1 h 50 min"),
        (35_990, "10 h"),
        (111_000, "31 h"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
