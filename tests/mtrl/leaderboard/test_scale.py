from __future__ import annotations

import time
from pathlib import Path

import pytest

from mtrl.leaderboard.__main__ import main
from tests.helpers.records import make_record, write


def write_many(folder: Path, count: int) -> None:
    """``count`` results of mt10: 25 methods, ten evaluations each, as many seeds as it takes."""
    for index in range(count):
        method, seed = index % 25, index // 25
        rates = [((seed * 7 + method * 3 + task) % 11) / 10 for task in range(10)]
        write(
            folder / f"m{method}",
            make_record("mt10", f"method-{method}", seed, rates, 10),
            f"{seed}.json",
        )


@pytest.mark.slow
def test_ten_thousand_files_build_in_half_a_minute(tmp_path: Path) -> None:
    write_many(tmp_path / "results", 10_000)
    began = time.process_time()  # a busy machine stretches the clock, not the work
    assert main(["build", str(tmp_path / "results"), f"--out={tmp_path / 'out'}"]) == 0
    seconds = time.process_time() - began
    size = (tmp_path / "out" / "index.html").stat().st_size / 1e6
    print(f"10,000 files in {seconds:.1f} s of CPU time, page of {size:.1f} MB")
    assert seconds < 30
