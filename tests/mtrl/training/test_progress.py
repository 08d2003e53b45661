from __future__ import annotations

import io
import os
from typing import Any

import pytest

from mtrl.training import progress
from mtrl.training.progress import Progress
from tests.helpers.terminal import open_terminal, read_all


def evaluation(env_steps: int, *successes: int) -> dict[str, Any]:
    per_task = {
        f"task-{index}": {"successes": count, "episodes": 4}
        for index, count in enumerate(successes)
    }
    return {"env_steps": env_steps, "per_task": per_task}


def test_quiet_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    shown = Progress("mt10 mtsac", 1000, 10_000, stream)
    for env_steps in range(1100, 2100, 100):
        now[0] += 5.0
        shown.advance(env_steps)
    shown.show(success=0.25)
    now[0] += 20.0
    shown.advance(2000)
    shown.evaluation(evaluation(2000, 4, 0))
    shown.close()
    assert stream.getvalue().splitlines() == [
        "mt10 mtsac 1,600/10,000 env steps, 20/s, 7 min left",
        "mt10 mtsac 2,000/10,000 env steps, 14/s, 9 min left, success 0.25",
        "evaluation at 2,000 env steps: success 0.500, 1 of 2 tasks ever solved",
    ]


def test_solves_that_did_not_converge_are_counted_where_there_are_any() -> None:
    shown = Progress("mt10 mtsac", 0, 10, io.StringIO())
    shown.show(success=0.25)
    shown.add_unsolved(0)
    assert shown.line().endswith("success 0.25")
    shown.add_unsolved(1)
    assert shown.line().endswith("success 0.25, 1 solve not converged")
    shown.add_unsolved(1_233)
    assert shown.line().endswith("success 0.25, 1,234 solves not converged")


def test_the_bar_counts_them_too() -> None:
    outer, inner = open_terminal(120)
    with os.fdopen(inner, "w") as stream:
        shown = Progress("mt10 mtsac", 0, 20_000_000, stream)
        shown.add_unsolved(3)
        shown.show(success=0.5)
        shown.advance(20_000_000)
        shown.close()
        os.write(inner, b"end")
        stream.flush()
        assert "success 0.50, 3 solves not converged" in read_some(outer)


@pytest.mark.parametrize("columns", [60, 120])
def test_bar_fits_the_terminal(columns: int) -> None:
    outer, inner = open_terminal(columns)
    with os.fdopen(inner, "w") as stream:
        shown = Progress("mt10 mtsac", 0, 20_000_000, stream)
        shown.advance(7_000_000)
        shown.show(success=0.5, eval=0.25)
        shown.advance(20_000_010)
        shown.note("evaluating")
        shown.close()
        os.write(inner, b"end")
        stream.flush()
        text = read_some(outer)
    lines = text.replace("\r", "\n").split("\n")
    for words in ("env steps/s", "ETA", "success 0.50, eval 0.25", "evaluating", "100%"):
        assert any(words in line for line in lines), words
    assert max(map(len, lines)) <= columns
    assert ("mt10 mtsac" in text) == (columns >= 90)


def read_some(outer: int) -> str:
    """What stands in the terminal so far."""
    shown = b""
    while not shown.endswith(b"end"):
        shown += os.read(outer, 4096)
    return shown.decode()


def test_read_all_ends_when_the_terminal_closes() -> None:
    outer, inner = open_terminal(80)
    os.write(inner, b"words")
    os.close(inner)
    assert read_all(outer) == "words"
