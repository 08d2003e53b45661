"""``mtrl plot`` and ``mtrl compare`` on records with chosen counts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtrl.analysis.compare import differences, read_side, setting_changes
from mtrl.analysis.figure import draw, interval_over_seeds
from mtrl.analysis.series import read_series
from mtrl.commands import compare, plot
from mtrl.statistics import welch_interval
from tests.helpers.records import make_record
from tests.mtrl.test_commands import complaint

EVERY = {"algorithm": "mtppo", "eval__every": 100_000, "agent__heads": "multi-head"}
OTHER = {"method": "mtppo-one-hot", "agent__heads": "one-hot"}


def write(folder: Path, seeds: dict[int, list[float]], **how: Any) -> Path:
    """A folder of result files, one for each seed with its rates of the first tasks."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, rates in seeds.items():
        record = make_record(
            **{"method": "mtppo", "seed": seed, "rates": rates, "env_steps": 300_000}
            | EVERY
            | how
        )
        (folder / f"seed-{seed}.json").write_text(json.dumps(record))
    return folder


def test_seeds_become_one_series(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {1: [1.0] * 10, 2: [0.8] * 10})
    other = write(tmp_path / "b", {1: [0.2] * 10}, **OTHER)
    first, second = read_series([folder, other])
    assert (first.label, second.label) == ("mtppo", "mtppo-one-hot")
    assert first.rates.shape == (2, 3, 10) and second.rates.shape == (1, 3, 10)
    assert first.env_steps.tolist() == [100_000, 200_000, 300_000]
    np.testing.assert_allclose(first.last_rates.mean(1), [1.0, 0.8])


def test_rollouts_that_end_apart_are_one_evaluation(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {1: [1.0] * 10, 2: [0.8] * 10})
    record = json.loads((folder / "seed-2.json").read_text())
    for evaluation in record["evaluations"]:
        evaluation["env_steps"] += 600
    record["budget"]["env_steps"] += 600
    (folder / "seed-2.json").write_text(json.dumps(record))
    [series] = read_series([folder])
    assert series.env_steps.tolist() == [100_300, 200_300, 300_300]
    assert series.rates.shape == (2, 3, 10)


def test_run_folders_and_files_are_found(tmp_path: Path) -> None:
    file = write(tmp_path / "a", {1: [1.0] * 10}) / "seed-1.json"
    run = tmp_path / "runs" / "seed-1"
    run.mkdir(parents=True)
    (run / "result.json").write_text(file.read_text())
    for path in (file, run, run.parent, file.parent):
        [series] = read_series([path])
        assert len(series.records) == 1
    [series] = read_series([run, run.parent])
    assert len(series.records) == 1


def test_intervals_stay_between_0_and_1() -> None:
    mean, low, high = interval_over_seeds(np.array([[1.0, 0.5], [0.9, 0.5]]))
    np.testing.assert_allclose(mean, [0.95, 0.5])
    assert low[0] == pytest.approx(0.95 - 12.706 * 0.05, abs=1e-3) and high[0] == 1.0
    assert low[1] == high[1] == 0.5


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_picture_is_drawn(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("matplotlib")
    paths = [
        write(tmp_path / "a", {1: [1.0] * 10, 2: [0.8] * 10}),
        write(tmp_path / "b", {1: []}, **OTHER),
    ]
    file = draw(read_series(paths), tmp_path / f"x.{ending}")
    assert file.stat().st_size > 5_000


def test_plot_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a", {1: [1.0] * 10})
    assert plot.main(["a"]) == 0
    assert capsys.readouterr().out == "learning-curves.png\n"
    assert (tmp_path / "learning-curves.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--out=x.png", "RUN: none given; name one run or more"),
        ("nowhere", "RUN: nowhere is no run, and no folder of runs or result files"),
        ("A --out=x.gif", "out: x.gif does not end in .pdf, .png, .svg"),
        ("A --ot=x.png", "ot: unknown setting; did you mean out?"),
        ("A MG", "runs of mt10 and mg3 do not go together; name one suite"),
        ("EMPTY", "has no evaluation yet"),
    ],
)
def test_plot_refuses(
    tmp_path: Path, arguments: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = {
        "A": write(tmp_path / "a", {1: []}),
        "MG": write(tmp_path / "mg", {1: []}, suite="mg3"),
        "EMPTY": write(tmp_path / "empty", {1: []}, evaluations=1, status="failed"),
    }
    status = plot.main([str(folders.get(word, word)) for word in arguments.split()])
    assert words in complaint("mtrl plot", status, capsys)


def test_without_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert plot.main([str(write(tmp_path / "a", {1: []}))]) == 1
    assert (
        'needs matplotlib; install it with: pip install "matplotlib' in capsys.readouterr().err
    )


def test_differences_are_welchs(tmp_path: Path) -> None:
    a = read_side("A", write(tmp_path / "a", {1: [0.2], 2: [0.3], 3: [0.4]}))
    b = read_side("B", write(tmp_path / "b", {1: [0.8], 2: [0.9], 3: [0.86]}, **OTHER))
    rows = differences(a, b)
    assert [row.name for row in rows] == [*a.tasks, "mean over tasks"]
    expected, low, high = welch_interval([0.8, 0.9, 0.86], [0.2, 0.3, 0.4])
    assert rows[0].b - rows[0].a == pytest.approx(expected)
    assert (rows[0].low, rows[0].high) == pytest.approx((low, high))
    assert rows[0].shown and not rows[1].shown


def test_changed_settings(tmp_path: Path) -> None:
    a = read_side("A", write(tmp_path / "a", {1: []}, num_threads=1))
    b = read_side("B", write(tmp_path / "b", {4: []}, **OTHER, num_threads=2))
    assert setting_changes(a, b) == [
        ("method", "mtppo", "mtppo-one-hot"),
        ("agent.heads", "multi-head", "one-hot"),
    ]


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        (
            [0.2, 0.24],
            [0.9, 0.94],
            "B is better: success 0.220 in A and 0.920 in B (difference +0.700, ",
        ),
        ([0.9, 0.94], [0.2, 0.24], "A is better: "),
        ([0.2, 0.9], [0.5, 0.6], "No difference is shown: "),
        (
            [0.2],
            [0.9],
            "No verdict: success 0.200 in A and 0.900 in B, and an interval needs two seeds",
        ),
    ],
)
def test_verdicts(
    tmp_path: Path,
    a: list[float],
    b: list[float],
    verdict: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folders = [
        write(tmp_path / name, {seed: [rate] * 10 for seed, rate in enumerate(rates)}, **how)
        for name, rates, how in (("a", a, {}), ("b", b, OTHER))
    ]
    assert compare.main([str(folder) for folder in folders]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith(verdict)
    assert "method: mtppo in A, mtppo-one-hot in B" in lines
    assert any(line.startswith("reach-v3 ") for line in lines)


def test_compare_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mixed = write(write(tmp_path / "mixed", {1: []}), {2: []}, **OTHER)
    status = compare.main([str(mixed), str(mixed)])
    assert "holds several methods (mtppo, mtppo-one-hot); name one of them" in complaint(
        "mtrl compare", status, capsys
    )
    status = compare.main(["x"])
    assert "A and B: 1 given; name two runs" in complaint("mtrl compare", status, capsys)
