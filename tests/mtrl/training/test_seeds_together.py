"""Seeds that train together end as they would alone, whatever happens on the way."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest

from mtrl import train
from mtrl.errors import InterruptedTraining, TrainingDiverged
from mtrl.records.results import read_result
from mtrl.settings.config import TrainConfig
from mtrl.settings.presets import read_yaml
from mtrl.trainer import train_together
from mtrl.training import checkpoint
from mtrl.training.checkpoint import newest_first
from tests.helpers.fakes import FakeAgent, FakeEnv
from tests.helpers.runs import final_record, final_state
from tests.helpers.workbench import METHOD
from tests.mtrl.conftest import SHORT, ShortConfig
from tests.mtrl.test_trainer import kill_at

SEEDS = (4, 0, 2)
OWN: dict[str, dict[str, Any]] = {
    "mtppo": {
        "agent.rollout_per_task": 40,
        "agent.epochs": 2,
        "agent.minibatches": 4,
        "envs_per_task": 2,
    },
    "mtsac": {
        "agent.learning_starts": 20,
        "agent.batch_per_task": 8,
        "agent.buffer_per_task": 64,
    },
}


def configs(short_config: ShortConfig, base: str, **changes: Any) -> list[TrainConfig]:
    return [short_config(f"{base}/seed-{seed}", seed=seed, **changes) for seed in SEEDS]


def ends(runs: list[TrainConfig]) -> list[Any]:
    return [(final_state(config.folder), final_record(config.folder)) for config in runs]


def train_alone(short_config: ShortConfig, **changes: Any) -> list[Any]:
    alone = configs(short_config, "alone", **changes)
    for config in alone:
        train_together([config])
    return ends(alone)


@pytest.mark.parametrize("method", ["mtppo", "mtsac"])
def test_each_run_is_bit_for_bit_what_it_is_alone(
    short_config: ShortConfig, method: str
) -> None:
    changes = {key.replace(".", "__"): value for key, value in OWN[method].items()}
    changes |= {
        "method": method,
        "agent__width": 16,
        "tensorboard": method == "mtppo",
        "total_env_steps": 240,
    }
    together = configs(short_config, "together", **changes)
    records = train_together(together, "the command")
    assert ends(together) == train_alone(short_config, **changes)
    assert [record["seed"] for record in records] == list(SEEDS)
    assert all(record["provenance"]["commands"] == ["the command"] for record in records)
    for config in together:
        assert (config.folder / "tensorboard").is_dir() == (method == "mtppo")


@pytest.mark.parametrize("suite", ["mt10:fake", "mt10:fake-inexact"])
def test_killed_at_some_write_then_repeated(
    short_config: ShortConfig, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train_alone(short_config, suite=suite)
    with monkeypatch.context() as patch:
        writes = kill_at(math.inf, patch)
        train_together(configs(short_config, "whole", suite=suite))
    for count in range(1, writes[0] + 1, 53):
        runs = configs(short_config, f"killed-{count}", suite=suite)
        with monkeypatch.context() as patch:
            kill_at(count, patch)
            with pytest.raises(SystemExit, match="killed"):
                train_together(runs)
        train_together(runs)
        assert ends(runs) == expected


def test_killed_between_the_checkpoints_of_two_seeds(
    short_config: ShortConfig,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs, save, saves = configs(short_config, "killed"), checkpoint.save, [0]

    def killed_save(*args: Any) -> Path:
        saves[0] += 1
        if saves[0] == 5:  # three seeds at 180 env steps, the first at 360
            raise SystemExit("killed")
        return save(*args)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", killed_save)
        with pytest.raises(SystemExit, match="killed"):
            train_together(runs)
    capsys.readouterr()
    train_together(runs)
    said = capsys.readouterr().out
    assert "seed-4 from 360 env steps" in said and "seed-0 from 180 env steps" in said
    assert ends(runs) == train_alone(short_config)


@pytest.mark.parametrize("at", [2, 200, 345])
def test_interrupted_then_continued(
    short_config: ShortConfig, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, runs = train_alone(short_config), configs(short_config, "stopped")
    step, advanced = FakeEnv.step_wait, [0]

    def interrupted_step(self: FakeEnv) -> Any:
        advanced[0] += 1
        if advanced[0] == at:
            os.kill(os.getpid(), 2)
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(FakeEnv, "step_wait", interrupted_step)
        with pytest.raises(
            InterruptedTraining, match=r"--resume \S*seed-4,\S*seed-0,\S*seed-2$"
        ) as caught:
            train_together(runs)
    assert [read_result(config.folder / "result.json")["status"] for config in runs] == [
        "running"
    ] * 3
    assert all(newest_first(config.folder / "checkpoints") for config in runs)
    assert train.main(["--resume", str(caught.value).rpartition(" ")[2]]) == 0
    assert ends(runs) == expected


def test_runs_at_different_points_catch_up(
    short_config: ShortConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = configs(short_config, "together", total_env_steps=900)
    train_together([short_config("together/seed-4", seed=4, total_env_steps=300)])
    train_together([runs[1]])
    capsys.readouterr()
    train_together(runs)
    said = capsys.readouterr()
    assert (
        "seed-4 from 300 env steps" in said.out
        and "seed-0: finished at 900 env steps" in said.out
    )
    assert "seed 2: evaluation at 150 env steps" in said.err
    for end, other in zip(
        ends(runs), train_alone(short_config, total_env_steps=900), strict=True
    ):
        # Its last checkpoints of the short run were others.
        assert end[0] == other[0] or end[1]["seed"] == 4
        if end[1]["seed"] == 4:
            made = [tuple(part.values()) for part in end[1]["budget"].pop("segments")]
            assert made == [(0, 300), (300, 900)]
            other[1]["budget"].pop("segments")
        assert end[1] == other[1]


def test_a_seed_that_diverges_is_recorded_and_the_others_finish(
    short_config: ShortConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, runs = train_alone(short_config), configs(short_config, "together")
    advance = FakeAgent.advance

    def broken_advance(self: FakeAgent) -> None:
        advance(self)
        if self.seed == 0 and self.env_steps >= 400:
            self.gain[0] = float("nan")

    monkeypatch.setattr(FakeAgent, "advance", broken_advance)
    with pytest.raises(
        TrainingDiverged,
        match=r"^seed 0: training diverged at .* checkpoint is at 360 env steps$",
    ):
        train_together(runs)
    statuses = [read_result(config.folder / "result.json")["status"] for config in runs]
    assert statuses == ["finished", "diverged", "finished"]
    assert newest_first(runs[1].folder / "checkpoints")[0].name == "000000000360"
    assert ends(runs[::2]) == expected[::2]


def test_unexpected_error_marks_every_unfinished_run_failed(
    short_config: ShortConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: FakeEnv) -> Any:
        raise ZeroDivisionError("physics")

    monkeypatch.setattr(FakeEnv, "step_wait", broken)
    runs = configs(short_config, "together")
    with pytest.raises(ZeroDivisionError):
        train_together(runs)
    assert [read_result(config.folder / "result.json")["status"] for config in runs] == [
        "failed"
    ] * 3


def arguments(*more: str) -> list[str]:
    settings = {key: value for key, value in SHORT.items() if key not in ("suite", "method")}
    return [
        "mt10:fake",
        f"--method={METHOD}",
        *(f"--{key}={value}" for key, value in settings.items()),
        *more,
    ]


def test_the_command_gives_every_seed_its_folder(
    faked: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main(arguments("--seeds=2,0")) == 0
    assert train.main(arguments("--seeds", "1,3", "--run-dir=mine")) == 0
    default = tmp_path / "runs/mt10-fake/fake"
    assert sorted(path.name for path in default.iterdir()) == ["seed-0", "seed-2"]
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["seed-1", "seed-3"]
    written = read_yaml(default / "seed-2/config.yaml")
    assert (written["seed"], written["run_dir"]) == (2, None)
    before = (default / "seed-2/result.json").read_bytes()
    capsys.readouterr()
    assert train.main(arguments("--seeds=2,0")) == 0
    assert capsys.readouterr().out.count("finished at 600 env steps") == 2
    assert (default / "seed-2/result.json").read_bytes() == before


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("--seeds=1,x", "seeds: '1,x' is not a list of whole numbers, such as 1,2,3"),
        ("--seeds=-1", "seeds: '-1' is not a list of whole numbers"),
        ("--seeds=", "seeds: '' is not a list of whole numbers"),
        ("--seeds=1,2,01", "seeds: 1 is there twice; every seed has one folder"),
        ("--seeds=1,2 --seed=3", "seeds: does not go with --seed; give one of them"),
        ("--seeds=1,2 --resume=x", "seeds: does not go with --resume; give one of them"),
        ("--sedes=1,2", "sedes: unknown setting; did you mean seeds?"),
    ],
)
def test_bad_seeds(
    faked: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: str,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main(arguments(*more.split())) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_only_runs_that_differ_in_their_seeds_resume_together(
    short_config: ShortConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    first, other = short_config("first"), short_config("other", seed=1, log_every=90)
    train_together([first])
    train_together([other])
    capsys.readouterr()
    assert train.main(["--resume", f"{first.folder},{other.folder}"]) == 2
    assert "resume: log_every is 60 in" in capsys.readouterr().err
    assert train.main(["--resume", f"{first.folder},{first.folder}"]) == 2
    assert "resume: seed 0 is there twice; every seed continues once" in capsys.readouterr().err
