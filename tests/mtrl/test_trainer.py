from __future__ import annotations

import errno
import math
import os
from pathlib import Path
from typing import Any

import pytest

from mtrl import trainer
from mtrl.errors import CheckpointError, RunFolderError, TrainingDiverged, WriteError
from mtrl.records.results import read_result
from mtrl.settings.config import TrainConfig
from mtrl.trainer import train
from mtrl.training import checkpoint
from mtrl.training.progress import Progress
from tests.helpers.fakes import FakeAgent, FakeEnv
from tests.helpers.runs import final_record, final_state
from tests.mtrl.conftest import ShortConfig


def steps_of(record: dict[str, Any]) -> list[int]:
    return [evaluation["env_steps"] for evaluation in record["evaluations"]]


def test_evaluations_and_checkpoints_fall_on_their_boundaries(
    short_config: ShortConfig,
) -> None:
    config = short_config()
    record = train(config, "the command")
    assert steps_of(record) == [150, 300, 450, 600]
    assert record["status"] == "finished"
    assert record["budget"] == {
        "env_steps": 600,
        "gradient_steps": 200,
        "segments": [{"env_steps": 0, "total_env_steps": 600}],
    }
    assert record["provenance"]["commands"] == ["the command"]
    assert read_result(config.folder / "result.json") == record
    assert [path.name for path in checkpoint.newest_first(config.folder / "checkpoints")] == [
        "000000000600",
        "000000000540",
    ]


def test_a_run_says_why_it_leaves_the_gpu_alone(
    short_config: ShortConfig,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = short_config(device="auto", total_env_steps=150)
    # Only the trainer finds a GPU, which the rest would use.
    monkeypatch.setattr(trainer, "auto_remark", lambda device: f"device: {device} is the CPU")
    record = train(config)
    assert record["provenance"]["device"] == "cpu"
    assert "warning: device: auto is the CPU\n" in capsys.readouterr().err


def test_intervals_that_no_vector_step_hits(short_config: ShortConfig) -> None:
    record = train(short_config(envs_per_task=7, eval__every=100, total_env_steps=250))
    assert steps_of(record) == [105, 210, 252]


@pytest.mark.parametrize(
    ("shares", "phrase"),
    [
        ((0.05, 0.1), "30 solves not converged"),
        ((0.0, 1e-4), "10 solves not converged"),
        ((0.0, 0.0), None),
    ],
)
def test_solves_that_did_not_converge_are_said(
    short_config: ShortConfig,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    shares: tuple[float, float],
    phrase: str | None,
) -> None:
    """Of 10 logs over 20 updates each; a share too small to count still counts as one."""
    metrics, lines = FakeAgent.metrics, list[str]()
    found = dict(
        zip(("train/actor_solve_failures", "train/critic_solve_failures"), shares, strict=True)
    )
    monkeypatch.setattr(FakeAgent, "metrics", lambda self: metrics(self) | found)
    monkeypatch.setattr(Progress, "close", lambda self: lines.append(self.line()))
    train(short_config())
    assert phrase is None or lines[0].endswith(phrase)
    assert ("not converged" in lines[0]) == (phrase is not None)


@pytest.mark.parametrize("suite", ["mt10:fake", "mt10:fake-inexact"])
def test_rebase_only_where_the_state_is_inexact(
    short_config: ShortConfig, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    boundaries = []
    rebase = FakeEnv.rebase

    def spy(self: FakeEnv, boundary: int) -> Any:
        boundaries.append(boundary)
        return rebase(self, boundary)

    monkeypatch.setattr(FakeEnv, "rebase", spy)
    train(short_config(suite=suite))
    assert sorted(set(boundaries) - {0}) == (
        [180, 360, 540, 600] if suite.endswith("inexact") else []
    )


def kill_at(count: float, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Make the ``count``-th fsync the process's last act, nearly as a SIGKILL there would. Returns the live count."""
    original, calls = os.fsync, [0]

    def call(handle: int) -> None:
        calls[0] += 1
        if calls[0] >= count:
            # No handler in the trainer catches it, and writes fail from here on.
            raise SystemExit("killed")
        original(handle)

    monkeypatch.setattr(os, "fsync", call)
    return calls


@pytest.mark.parametrize("suite", ["mt10:fake", "mt10:fake-inexact"])
def test_killed_at_every_write_then_resumed_is_bit_identical(
    short_config: ShortConfig, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = short_config("whole", suite=suite)
    with monkeypatch.context() as patch:
        writes = kill_at(math.inf, patch)
        train(whole)
    expected = final_state(whole.folder), final_record(whole.folder)
    for count in range(1, writes[0] + 1, 4):
        config = short_config(f"killed-{count}", suite=suite)
        with monkeypatch.context() as patch:
            kill_at(count, patch)
            with pytest.raises(SystemExit, match="killed"):
                train(config)
        train(config)
        assert (final_state(config.folder), final_record(config.folder)) == expected


@pytest.mark.parametrize("suite", ["mt10:fake", "mt10:fake-inexact"])
@pytest.mark.parametrize(
    "at", [1, 55, 110, 160, 200, 345]
)  # training, evaluations, one of them at a checkpoint
def test_interrupted_then_resumed_is_bit_identical(
    short_config: ShortConfig, suite: str, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, config = (
        short_config(run, suite=suite, checkpoint_every=300) for run in ("whole", "stopped")
    )
    train(whole)
    step, advanced = FakeEnv.step_wait, [0]

    def interrupted_step(self: FakeEnv) -> Any:
        advanced[0] += 1
        if advanced[0] == at:
            os.kill(os.getpid(), 2)
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(FakeEnv, "step_wait", interrupted_step)
        with pytest.raises(
            trainer.InterruptedTraining, match=r"continue from .* --resume"
        ) as caught:
            train(config)
    assert caught.value.exit_status == 130
    assert read_result(config.folder / "result.json")["status"] == "running"
    train(config)
    assert final_state(config.folder) == final_state(whole.folder)
    assert final_record(config.folder) == final_record(whole.folder)


def test_exact_environment_is_saved_where_it_was_interrupted(
    short_config: ShortConfig,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = short_config(suite="mt10:fake", eval__every=10_000)
    with monkeypatch.context() as patch:
        patch.setattr(
            trainer.Interrupts,
            "signum",
            property(lambda self: 15, lambda self, value: None),
            raising=False,
        )
        with pytest.raises(
            trainer.InterruptedTraining,
            match="stopped at 3 env steps; continue from 3 env steps",
        ):
            train(config)
    train(config)
    assert "continuing" in capsys.readouterr().out


def test_finished_run_says_so_and_longer_one_continues(
    short_config: ShortConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = short_config()
    first = train(config)
    assert train(config) == first
    assert (
        "finished at 600 env steps; raise total_env_steps to continue it"
        in capsys.readouterr().out
    )
    record = train(short_config(total_env_steps=800))
    assert "continuing" in capsys.readouterr().out
    assert steps_of(record) == [150, 300, 450, 600, 750, 801]
    assert record["evaluations"][:4] == first["evaluations"]
    assert record["run_id"] == first["run_id"]
    assert record["method"]["params"]["total_env_steps"] == 800
    whole = train(short_config("whole", total_env_steps=800))
    assert [e["per_task"] for e in record["evaluations"]] == [
        e["per_task"] for e in whole["evaluations"]
    ]


def test_wall_clock_accumulates(short_config: ShortConfig) -> None:
    train(short_config())
    walls = [
        evaluation["wall_s"]
        for evaluation in train(short_config(total_env_steps=800))["evaluations"]
    ]
    assert walls == sorted(walls)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"suite": "mt1:fake"}, "suite is 'mt10:fake' there and 'mt1:fake' here"),
        ({"agent__learning_rate": 0.02}, "agent.learning_rate is 0.01 there and 0.02 here"),
        ({"eval__every": 151}, "eval.every is 150 there and 151 here"),
    ],
)
def test_another_configuration_is_refused(
    short_config: ShortConfig, change: dict[str, Any], words: str
) -> None:
    config = short_config()
    before = train(config)
    with pytest.raises(RunFolderError, match=f"holds another run: {words}"):
        train(short_config(**change))
    assert read_result(config.folder / "result.json") == before


def test_foreign_checkpoint_is_refused(short_config: ShortConfig) -> None:
    ours, theirs = short_config("ours"), short_config("theirs", seed=1, total_env_steps=900)
    train(ours)
    train(theirs)
    newest = checkpoint.newest_first(theirs.folder / "checkpoints")[0]
    newest.rename(ours.folder / "checkpoints" / newest.name)
    with pytest.raises(CheckpointError, match="is of another run: seed is 1 there and 0 here"):
        train(ours)


@pytest.mark.parametrize("suite", ["mt10:fake", "mt10:fake-inexact"])
def test_torn_checkpoint_falls_back_and_still_ends_identical(
    short_config: ShortConfig, suite: str, capfd: pytest.CaptureFixture[str]
) -> None:
    whole, config = short_config("whole", suite=suite), short_config("torn", suite=suite)
    train(whole)
    train(config)
    torn = config.folder / "checkpoints" / "000000000600" / "state.safetensors"
    torn.write_bytes(torn.read_bytes()[:100])
    train(config)
    captured = capfd.readouterr()
    assert "warning:" in captured.err
    assert (
        "damaged, state.safetensors does not match its sha256; using the older one, at 540 env steps"
        in captured.err
    )
    assert final_state(config.folder) == final_state(whole.folder)
    assert final_record(config.folder) == final_record(whole.folder)


def test_divergence_keeps_the_last_good_checkpoint(short_config: ShortConfig) -> None:
    config = short_config(agent__nan_at=400)
    with pytest.raises(
        TrainingDiverged,
        match=r"actor.gain is not finite; the last good checkpoint is at 360 env steps",
    ):
        train(config)
    record = read_result(config.folder / "result.json")
    assert record["status"] == "diverged"
    assert steps_of(record) == [150, 300]
    assert checkpoint.newest_first(config.folder / "checkpoints")[0].name == "000000000360"


def test_divergence_before_any_checkpoint(short_config: ShortConfig) -> None:
    with pytest.raises(TrainingDiverged, match="there is no checkpoint yet"):
        train(short_config(agent__nan_at=30))


def test_full_disk_at_a_checkpoint(
    short_config: ShortConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, config = short_config("whole"), short_config("full")
    train(whole)
    write, written = checkpoint.write_state, []

    def full(path: Path, state: Any) -> None:
        written.append(path)
        if len(written) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, state)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_state", full)
        with pytest.raises(
            WriteError, match=r"000000000360: cannot be written \(No space left on device\)"
        ):
            train(config)
    assert read_result(config.folder / "result.json")["status"] == "failed"
    assert [path.name for path in (config.folder / "checkpoints").iterdir()] == ["000000000180"]
    train(config)
    assert final_state(config.folder) == final_state(whole.folder)


def test_unexpected_error_marks_the_run_failed(
    short_config: ShortConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = short_config()

    def broken(self: FakeEnv) -> Any:
        raise ZeroDivisionError("physics")

    monkeypatch.setattr(FakeEnv, "step_wait", broken)
    with pytest.raises(ZeroDivisionError):
        train(config)
    assert read_result(config.folder / "result.json")["status"] == "failed"


def test_bad_backend_leaves_no_folder(short_config: ShortConfig, tmp_path: Path) -> None:
    config: TrainConfig = short_config(backend="warp")
    with pytest.raises(ValueError, match="backend must be one of"):
        train(config)
    assert not config.folder.exists()


def test_what_a_run_will_not_do_is_said_at_its_start(
    short_config: ShortConfig,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = []

    def cautions(self: FakeAgent, total_env_steps: int) -> list[str]:
        asked.append(total_env_steps)
        return ["aggregator: 'dwa' only measures"]

    monkeypatch.setattr(FakeAgent, "cautions", cautions)
    train(short_config())
    assert capsys.readouterr().err.startswith("warning: aggregator: 'dwa' only measures\n")
    assert asked == [600]
