from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mtrl.evaluation.evaluator import Evaluator
from mtrl.leaderboard import verify
from mtrl.leaderboard.__main__ import main
from mtrl.settings.config import TrainConfig
from mtrl.statistics import wilson_interval
from mtrl.sweeps.spec import Unit
from mtrl.sweeps.state import collect
from mtrl.trainer import train
from mtrl.training.checkpoint import newest_first
from tests.mtrl.conftest import ShortConfig

ROW = "mt10-fake/60/fake-learning-rate-0.1"


@pytest.fixture
def row(short_config: ShortConfig, tmp_path: Path) -> list[TrainConfig]:
    """Two finished runs of one row, laid out as a sweep does, with their result files."""
    configs = []
    for seed in (0, 1):
        folder = f"results/.runs/{ROW}/seed-{seed}"
        configs.append(
            short_config(folder, seed=seed, total_env_steps=60, agent__learning_rate=0.1)
        )
        train(configs[-1])
        collect(
            Unit(
                configs[-1],
                ("suite", "method"),
                (),
                tmp_path / f"results/{ROW}/seed-{seed}.json",
            )
        )
    return configs


def edit(path: Path, successes: int) -> None:
    """Claim ``successes`` in every task."""
    record = json.loads(path.read_text())
    for task in record["evaluations"][-1]["per_task"].values():
        task["successes"] = successes
    path.write_text(json.dumps(record))


def test_a_row_holds_by_name_by_file_and_by_folder(
    row: list[TrainConfig],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The fake suites are not envs'.
    monkeypatch.setattr("mtrl.leaderboard.files.suite_problems", lambda protocol: [])
    names = (
        ["mt10:fake/fake", f"--results={tmp_path / 'results'}"],
        [ROW, f"--results={tmp_path / 'results'}"],
        [str(tmp_path / "results" / ROW)],
        [str(path) for path in sorted((tmp_path / "results" / ROW).glob("*.json"))],
        [str(config.folder) for config in row],
    )
    for words in names:
        assert main(["verify", *words]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.rpartition("(")[2] for line in lines[:2]] == ["equal in every count)"] * 2
        assert (
            lines[2].startswith("mt10:fake/fake holds: found ") and "over 2 seeds" in lines[2]
        )


def test_a_method_of_several_rows_is_asked_about(
    row: list[TrainConfig],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mtrl.leaderboard.files.suite_problems", lambda protocol: [])
    results = tmp_path / "results"
    other = results / "mt10-fake/90/fake"
    shutil.copytree(results / ROW, other)
    for path in other.glob("*.json"):
        record = json.loads(path.read_text())
        record["budget"]["segments"][0]["total_env_steps"] = 90
        path.write_text(json.dumps(record))
    assert main(["verify", "mt10:fake/fake", f"--results={results}"]) == 2
    assert (
        "mt10:fake/fake has 2 rows; name one of mt10:fake/90/fake, learning_rate 0.1; "
        "mt10:fake/60/fake, learning_rate 0.1" in capsys.readouterr().err
    )
    assert main(["verify", "mt10:fake/60/fake", f"--results={results}"]) == 0
    assert "over 2 seeds" in capsys.readouterr().out


def test_a_row_is_named_by_its_label(
    row: list[TrainConfig],
    short_config: ShortConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows of one method and budget that differ in a setting are not mixed."""
    monkeypatch.setattr("mtrl.leaderboard.files.suite_problems", lambda protocol: [])
    results = tmp_path / "results"
    place = "mt10-fake/60/other/seed-0"
    config = short_config(
        f"results/.runs/{place}", total_env_steps=60, agent__learning_rate=0.2
    )
    train(config)
    collect(Unit(config, ("suite", "method"), (), results / f"{place}.json"))
    assert main(["verify", "mt10:fake/fake", f"--results={results}"]) == 2
    listed = capsys.readouterr().err.rpartition("name one of ")[2].strip().split("; ")
    assert listed == [
        "mt10:fake/60/fake, learning_rate 0.1",
        "mt10:fake/60/fake, learning_rate 0.2",
    ]
    files = [str(results / ROW / "seed-0.json"), str(results / f"{place}.json")]
    assert main(["verify", *files]) == 2
    assert "they are different rows; verify one at a time" in capsys.readouterr().err
    for label, seeds in zip(listed, (2, 1)):
        assert main(["verify", label.replace("60/", ""), f"--results={results}"]) == 0
        assert f"over {seeds} seed" in capsys.readouterr().out


def test_another_seed_evaluates_other_goals(
    row: list[TrainConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    played = []

    def evaluate(self: Any, policy: Any) -> Any:
        played.append(self.env.goal_set.tobytes())
        return real(self, policy)

    real = Evaluator.evaluate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Evaluator, "evaluate", evaluate)
        for words in ([], [], ["--seed=7"]):
            main(["verify", str(row[0].folder), *words])
    assert played[0] == played[1] != played[2]


def test_a_false_claim_does_not_hold(
    row: list[TrainConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = sorted((tmp_path / "results" / ROW).glob("*.json"))
    found = [
        json.loads(path.read_text())["evaluations"][-1]["per_task"]["task-0"]["successes"]
        for path in paths
    ]
    for path in paths:
        edit(path, 0 if sum(found) > 4 else 4)
    assert main(["verify", *map(str, paths)]) == 1
    out = capsys.readouterr().out
    assert "most changed: task-" in out and "mt10:fake/fake does NOT hold" in out


def claims(*successes: int, levels: int = 50) -> list[verify.Claim]:
    """Runs of one task with 50 episodes each."""
    tasks = [{"task": {"successes": count, "episodes": 50}} for count in successes]
    record = {"protocol": {"deterministic": True, "distinct_levels": {"task": levels}}}
    return cast(Any, [SimpleNamespace(per_task=task, record=record) for task in tasks])


def test_the_interval_covers_seeds_and_episodes() -> None:
    alone = verify.interval(claims(25), [0.5])
    assert alone == pytest.approx((0.366, 0.634), abs=1e-3)  # Wilson
    agreeing = verify.interval(claims(25, 25, 25), [0.5] * 3)  # whose t-interval has no width
    assert 0.42 < agreeing[0] < 0.43 and agreeing[1] == pytest.approx(1 - agreeing[0])
    apart = verify.interval(claims(10, 25, 40), [0.2, 0.5, 0.8])
    few = verify.interval(claims(25, levels=2), [0.5])
    assert few == pytest.approx(wilson_interval(1, 2))
    assert apart == (0.0, 1.0)  # a t-interval of 0.5 +- 0.75, within what a rate can be


def test_missing_checkpoints_are_one_sentence(
    row: list[TrainConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = tmp_path / "results" / ROW / "seed-0.json"
    newest = newest_first(row[0].folder / "checkpoints")[0]
    newest.rename(newest.with_name("old"))
    assert main(["verify", str(result)]) == 2
    assert f"{row[0].folder}: has no checkpoint yet" in capsys.readouterr().err
    shutil.rmtree(row[0].folder)
    assert main(["verify", str(result)]) == 2
    err = capsys.readouterr().err
    assert (
        "are not in" in err and "name the run folder itself" in err and "Traceback" not in err
    )


def test_only_final_results_of_one_row(
    row: list[TrainConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = sorted((tmp_path / "results" / ROW).glob("*.json"))
    record = json.loads(first.read_text())
    first.write_text(json.dumps(record | {"method": record["method"] | {"name": "other"}}))
    (row[0].folder / "result.json").write_text(first.read_text())
    assert main(["verify", str(row[0].folder), str(second)]) == 2
    assert "mt10:fake/fake and mt10:fake/other are different rows" in capsys.readouterr().err
    (row[0].folder / "result.json").write_text(json.dumps(record | {"status": "diverged"}))
    assert main(["verify", str(row[0].folder)]) == 2
    assert "is diverged, so it has no final result to verify" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seed=1"], "ROW: none given"),
        (["x", "--sed=1"], "sed: unknown setting; did you mean seed?"),
        (["x", "--seed=one"], "seed: 'one' is not a whole number"),
        (["mt10/x", "--results=no-such-folder"], "'no-such-folder' is not a folder"),
        (
            ["mt10/mtpo", "--results=results"],
            "ROW: 'mt10/mtpo' is unknown; did you mean 'mt10/mtppo'?",
        ),
    ],
)
def test_bad_input(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", *arguments]) == 2
    assert words in capsys.readouterr().err
