"""A start that fails leaves the folder as it was: nothing of a new run, and a run that was there unharmed."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtrl import trainer
from mtrl.agents import AgentError
from mtrl.errors import InterruptedTraining, ResultError, WorkbenchError, WriteError
from mtrl.trainer import train, train_together
from mtrl.training import logger, run
from mtrl.training.run_folder import RunFolder
from tests.helpers import fakes
from tests.helpers.runs import final_record, final_state
from tests.mtrl.conftest import ShortConfig

Patch = Callable[[pytest.MonkeyPatch], None]


def files_below(folder: Path) -> dict[str, bytes | None]:
    """Contents by path, None for folders; the lock file, which says only which process was the last, is left out."""
    found = {
        str(path.relative_to(folder)): path
        for path in folder.rglob("*")
        if path.name != ".lock"
    }
    return {name: path.read_bytes() if path.is_file() else None for name, path in found.items()}


def _no_environment(patch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any, **settings: Any) -> Any:
        raise OSError("no simulator")

    patch.setattr("mtrl.envs.make_vec", broken)


def _no_agent(patch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, *arguments: Any, **settings: Any) -> None:
        raise AgentError("width: 0 is too small")

    patch.setattr(fakes.FakeAgent, "__init__", broken)


def _no_signals(patch: pytest.MonkeyPatch) -> None:
    def broken(self: Any) -> Any:
        raise ValueError("signal only works in main thread of the main interpreter")

    patch.setattr(trainer.Interrupts, "__enter__", broken)


def _no_config(patch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> None:
        raise WriteError(f"{path}: cannot be written")

    patch.setattr(run, "write_text", full)


def _no_record(patch: pytest.MonkeyPatch) -> None:
    def full(path: Path, record: Any) -> None:
        raise WriteError(f"{path}: cannot be written")

    patch.setattr(run, "write_result", full)


def _wrong_record(patch: pytest.MonkeyPatch) -> None:
    original = run.new_record

    def wrong(*arguments: Any, **more: Any) -> Any:
        return original(*arguments, **more) | {"seed": -1}

    patch.setattr(run, "new_record", wrong)


def _no_events(patch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **settings: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    patch.setattr(logger, "SummaryWriter", full)


def _half_written_events(patch: pytest.MonkeyPatch) -> None:
    """TensorBoard's file is there, and its writer alive, when something that comes later fails."""
    opened = run.Run._open_events

    def broken(self: Any) -> Any:
        self.events = opened(self)
        raise OSError("no more files")

    patch.setattr(run.Run, "_open_events", broken)


def _stopped_at_once(patch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Any) -> Any:
        raise KeyboardInterrupt

    patch.setattr(run.Run, "_open_events", interrupted)


FAULTS: list[tuple[Patch, type[BaseException]]] = [
    (_no_environment, OSError),
    (_no_agent, AgentError),
    (_no_signals, ValueError),
    (_no_config, WriteError),
    (_no_record, WriteError),
    (_wrong_record, ResultError),
    (_no_events, WorkbenchError),
    (_half_written_events, OSError),
    (_stopped_at_once, KeyboardInterrupt),
]
faults = pytest.mark.parametrize(
    ("fault", "error"), FAULTS, ids=[fault.__name__[1:] for fault, _ in FAULTS]
)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[fakes.FakeEnv]:
    """Every environment that the test makes."""
    made: list[fakes.FakeEnv] = []
    original = fakes.FakeEnv.__init__

    def noted(self: fakes.FakeEnv, *arguments: Any) -> None:
        original(self, *arguments)
        made.append(self)

    monkeypatch.setattr(fakes.FakeEnv, "__init__", noted)
    return made


@faults
def test_no_folder_is_left_and_another_configuration_may_have_it(
    short_config: ShortConfig,
    monkeypatch: pytest.MonkeyPatch,
    made: list[fakes.FakeEnv],
    fault: Patch,
    error: type[BaseException],
) -> None:
    wrong = short_config(tensorboard=True, agent__learning_rate=0.5)
    with monkeypatch.context() as patch, pytest.raises(error):
        fault(patch)
        train(wrong)
    assert not wrong.folder.exists()
    assert all(env.closed_ for env in made)
    corrected = short_config(tensorboard=True)
    assert corrected.folder == wrong.folder
    assert train(corrected)["status"] == "finished"


@faults
def test_an_empty_folder_of_the_user_stays(
    short_config: ShortConfig,
    monkeypatch: pytest.MonkeyPatch,
    fault: Patch,
    error: type[BaseException],
) -> None:
    config = short_config(tensorboard=True)
    config.folder.mkdir()
    with monkeypatch.context() as patch, pytest.raises(error):
        fault(patch)
        train(config)
    assert list(config.folder.iterdir()) == []


@faults
def test_a_run_that_was_there_is_unharmed(
    short_config: ShortConfig,
    monkeypatch: pytest.MonkeyPatch,
    fault: Patch,
    error: type[BaseException],
) -> None:
    whole, config = (short_config(name, tensorboard=True) for name in ("whole", "run"))
    train(whole)
    asked = itertools.count()
    with pytest.raises(InterruptedTraining):
        train(config, should_stop=lambda: next(asked) > 200)
    before = files_below(config.folder)
    with monkeypatch.context() as patch, pytest.raises(error):
        fault(patch)
        train(config)
    assert files_below(config.folder) == before
    train(config)
    assert final_state(config.folder) == final_state(whole.folder)
    assert final_record(config.folder) == final_record(whole.folder)


def test_damaged_checkpoints_are_set_aside_only_by_a_start_that_succeeds(
    short_config: ShortConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = short_config()
    train(config)
    (config.folder / "checkpoints" / "000000000600" / "state.safetensors").write_bytes(b"torn")
    before = files_below(config.folder)
    with monkeypatch.context() as patch, pytest.raises(AgentError):
        _no_agent(patch)
        train(config)
    assert files_below(config.folder) == before
    train(config)
    assert (config.folder / "checkpoints" / "damaged-000000000600").is_dir()


def test_all_seeds_of_a_start_or_none(
    short_config: ShortConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [short_config(f"seed-{seed}", seed=seed) for seed in range(3)]
    write = run.write_result

    def full_at_the_last(path: Path, record: Any) -> None:
        if record["seed"] == 2:
            raise WriteError(f"{path}: cannot be written")
        write(path, record)

    with monkeypatch.context() as patch, pytest.raises(WriteError):
        patch.setattr(run, "write_result", full_at_the_last)
        train_together(configs)
    assert not any(config.folder.exists() for config in configs)
    assert [record["status"] for record in train_together(configs)] == ["finished"] * 3


def test_a_setting_that_no_record_may_hold_leaves_no_folder(short_config: ShortConfig) -> None:
    config = short_config()
    object.__setattr__(config.agent, "learning_rate", float("inf"))  # however it came there
    with pytest.raises(AgentError, match="learning_rate: inf is not a finite number"):
        train(config)
    assert not config.folder.exists()


def test_an_error_after_the_start_is_a_failed_run(
    short_config: ShortConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = short_config()

    def broken(self: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(fakes.FakeAgent, "advance", broken)
        train(config)
    with RunFolder(config.folder) as folder:
        assert folder.is_run
    assert train(config)["status"] == "finished"
