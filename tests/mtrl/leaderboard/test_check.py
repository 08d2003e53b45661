from __future__ import annotations

from pathlib import Path

import pytest

from mtrl.leaderboard.__main__ import main
from mtrl.records.schema import schema_path
from tests.helpers.hostile import hostile_record, write_broken
from tests.helpers.records import make_record, write


def test_valid_files_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write(tmp_path, make_record())
    write(tmp_path, hostile_record(), "hostile.json")
    assert main(["check", str(first)]) == 0
    assert capsys.readouterr().out == "1 file checked, no problems\n"
    assert main(["check", str(tmp_path)]) == 0


def test_problems_name_file_place_and_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = make_record()
    record["seed"], record["budget"]["env_steps"] = "one", -1
    path = write(tmp_path, record)
    assert main(["check", str(path), str(tmp_path / "missing.json")]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{path}: seed: is 'one', not a whole number"
    assert lines[1] == f"{path}: budget.env_steps: -1 is below the least allowed value, 0"
    assert (
        lines[2] == f"{tmp_path / 'missing.json'}: cannot be read (No such file or directory)"
    )
    assert lines[3] == "2 files checked, 3 problems"


def test_broken_files_are_each_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reasons = write_broken(tmp_path / "results")
    assert main(["check", str(tmp_path / "results")]) == 2
    lines = capsys.readouterr().out.splitlines()
    # A file that is named on the command line may lie anywhere; here the link leads to a copy of first.json.
    reasons |= {"link.json": "is already the run of", "second.json": "is already the run of"}
    for name, reason in reasons.items():
        assert any(f"/{name}: " in line and reason in line for line in lines), name


def test_many_problems_are_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = make_record(evaluations=20)
    for evaluation in record["evaluations"]:
        evaluation["wall_s"] = "long"
        evaluation["gradient_steps"] = None
    assert main(["check", str(write(tmp_path, record))]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 22
    assert lines[20].endswith("and 20 more problems")


def test_schema_option_names_the_published_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--schema"]) == 0
    assert capsys.readouterr().out.strip() == str(schema_path())


def test_unknown_options_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--strict=yes", "x"]) == 2
    assert "strict: unknown setting" in capsys.readouterr().err
