from __future__ import annotations

from pathlib import Path

import pytest

from mtrl.envs import suite_ids
from mtrl.errors import ConfigError
from mtrl.leaderboard.outside import COLUMNS, SHIPPED, curves, finals, read

HEAD = ",".join(COLUMNS) + "\n"


def test_shipped_numbers_have_a_source_and_a_known_suite() -> None:
    entries = read(SHIPPED)
    assert len(entries) > 20
    assert {entry.suite for entry in entries} <= set(suite_ids())
    assert all(entry.source and entry.statistic for entry in entries)


def test_one_number_per_label_is_final_and_several_are_a_curve(tmp_path: Path) -> None:
    path = tmp_path / "outside.csv"
    path.write_text(
        HEAD
        + "mt10,a,0.5,,200,,mean,x,\nmt10,a,0.2,,100,,mean,x,\nmt10,b,0.7,0.9,,5,mean,y,note\n"
    )
    entries = read(path)
    assert [(entry.label, entry.shown) for entry in finals(entries)] == [
        ("b", "0.700 to 0.900"),
        ("a", "0.500"),
    ]
    assert {
        label: [entry.env_steps for entry in group] for label, group in curves(entries).items()
    } == {"a": [100, 200]}
    assert finals(entries)[0].num_parameters == 5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b\n", "the first line of"),
        (
            HEAD + "mt10,a,1.5,,,,mean,x,\n",
            "line 2: success_low: '1.5' is not a number from 0 to 1",
        ),
        (HEAD + "mt10,a,nan,,,,mean,x,\n", "success_low: 'nan' is not a number"),
        (HEAD + "mt10,a,0.5,,1e99,,mean,x,\n", "env_steps: '1e99' is not a number"),
        (HEAD + "mt10,a,0.5\n", "line 2: has not 9 columns"),
        (HEAD + "mt10,,0.5,,,,mean,x,\n", "label must be a text"),
        (HEAD + 'mt10,"a', "is not CSV"),
        ("\x00" * (2**20 + 1), "is larger than 1 MiB"),
    ],
)
def test_bad_files_name_line_and_column(content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "outside.csv"
    path.write_text(content)
    with pytest.raises(ConfigError, match=words):
        read(path)
