from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtrl import trainer
from mtrl.errors import WriteError
from mtrl.trainer import train
from mtrl.training.logger import TensorBoardLogger
from tests.helpers.fakes import FakeEnv
from tests.mtrl.conftest import ShortConfig


def events_of(run: Path) -> EventAccumulator:
    events = EventAccumulator(
        str(run / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0}
    )
    events.Reload()
    return events


def test_keys_are_those_that_users_know(short_config: ShortConfig) -> None:
    config = short_config(tensorboard=True)
    record = train(config)
    events = events_of(config.folder)
    names = [f"eval/success/task-{n}" for n in range(3)]
    kinds = ("final_step_success", "return", "length")
    names += [f"task task-{n}/eval_{kind}" for kind in kinds for n in range(3)]
    own = [
        "eval/mean_success",
        "time/env_steps_per_second",
        "time/gradient_steps",
        "time/wall_s",
    ]
    assert set(events.Tags()["scalars"]) == {
        *names,
        *own,
        "train/fake_loss",
        "rollout/success_rate",
    }
    assert [point.step for point in events.Scalars("eval/mean_success")] == [150, 300, 450, 600]
    assert [point.step for point in events.Scalars("train/fake_loss")] == list(
        range(60, 601, 60)
    )
    expected = [
        evaluation["per_task"]["task-1"]["successes"] / 4
        for evaluation in record["evaluations"]
    ]
    assert [point.value for point in events.Scalars("eval/success/task-1")] == pytest.approx(
        expected
    )
    table = events.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| `agent.learning_rate` | `0.01` |" in table
    assert "_hparams_/experiment" in events.summary_metadata


@pytest.mark.parametrize("suite", ["mt10:fake", "mt10:fake-inexact"])
def test_resumed_run_has_no_point_twice(
    short_config: ShortConfig, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = short_config(suite=suite, tensorboard=True, total_env_steps=600)
    step, steps = FakeEnv.step_wait, [0]

    def die(self: FakeEnv) -> object:
        steps[0] += 1
        if steps[0] == 170:
            # After the evaluation at 300 env steps, before the checkpoint at 360.
            raise SystemExit("killed")
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(FakeEnv, "step_wait", die)
        with pytest.raises(SystemExit):
            train(config)
    train(config)
    events = events_of(config.folder)
    for key, every in (("train/fake_loss", 60), ("eval/mean_success", 150)):
        assert [point.step for point in events.Scalars(key)] == list(range(every, 601, every))


def test_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = TensorBoardLogger(tmp_path, 0, {})

    def full(*arguments: object, **keywords: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(logger._writer, "add_scalar", full)
    with pytest.raises(WriteError, match=r"cannot be written \(No space left on device\)"):
        logger.scalars({"train/loss": 1.0}, 10)


def test_off_means_no_folder(short_config: ShortConfig) -> None:
    config = short_config(tensorboard=False)
    trainer.train(config)
    assert not (config.folder / "tensorboard").exists()
