from __future__ import annotations

from pathlib import Path

from scripts.results_table import lines
from tests.helpers.records import make_record, write


def test_a_line_per_row_that_has_a_number(tmp_path: Path) -> None:
    for seed, rate in enumerate((0.2, 0.4)):
        write(
            tmp_path / "mt10/3m/mtsac",
            make_record(seed=seed, rates=[rate] * 10),
            f"seed-{seed}.json",
        )
    write(
        tmp_path / "mt10/3m/mtsac-width-8",
        make_record(rates=[1.0] * 10, agent__width=8),
        "seed-0.json",
    )
    write(tmp_path / "mt10/3m/mtppo", make_record(method="mtppo", status="failed"), "seed-0.json")
    (tmp_path / "benchmark_x.json").write_text("{}")
    folder = tmp_path / "mt10/3m"
    wide = f"[1 file]({folder}/mtsac-width-8/seed-0.json)"
    assert list(lines(tmp_path)) == [
        f"| mt10 | 3,000,000 | mtsac, width 8 | 1.000 | 0: 1.000 | 1.00 | {wide} |",
        f"| mt10 | 3,000,000 | mtsac | 0.300 | 0: 0.200, 1: 0.400 | 1.00 | [2 files]({folder}/mtsac) |",
    ]
