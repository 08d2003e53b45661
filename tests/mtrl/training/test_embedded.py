"""Training inside a larger program: in its threads, beside its signal handlers, under its settings of PyTorch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from mtrl import evaluate
from mtrl.errors import InterruptedTraining, RunFolderError, TrainingDiverged
from mtrl.records.results import Record, read_result
from mtrl.sweeps.estimate import Calibrations
from mtrl.trainer import train
from mtrl.training.interrupts import Interrupts
from mtrl.training.run_folder import RunFolder
from mtrl.training.torch_settings import torch_settings
from tests.helpers import fakes
from tests.helpers.runs import final_record, final_state
from tests.mtrl.conftest import ShortConfig


def in_thread(action: Callable[[], Any]) -> Any:
    """What ``action`` returns or raises in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(action).result()


@pytest.fixture
def handlers() -> Iterator[list[Any]]:
    """The program's own handlers, which must be in place whenever it looks."""
    own: list[Any] = [lambda signum, frame: None, lambda signum, frame: None]
    before = [
        signal.signal(wanted, handler)
        for wanted, handler in zip((signal.SIGINT, signal.SIGTERM), own)
    ]
    yield own
    for wanted, handler in zip((signal.SIGINT, signal.SIGTERM), before):
        signal.signal(wanted, handler)


def present_handlers() -> list[Any]:
    return [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]


def test_a_thread_trains_as_the_main_thread_does(
    short_config: ShortConfig, handlers: list[Any]
) -> None:
    here, there = short_config("here"), short_config("there")
    train(here)
    seen: list[list[Any]] = []

    def look() -> bool:
        seen.append(present_handlers())
        return False

    record = in_thread(lambda: train(there, should_stop=look))
    assert record["status"] == "finished"
    assert final_state(there.folder) == final_state(here.folder)
    assert final_record(there.folder) == final_record(here.folder)
    assert seen and all(each == handlers for each in seen)
    assert present_handlers() == handlers


def test_threads_train_side_by_side(short_config: ShortConfig) -> None:
    """As in a study with several jobs in one process."""
    alone = [short_config(f"alone-{seed}", seed=seed) for seed in range(2)]
    beside = [short_config(f"beside-{seed}", seed=seed) for seed in range(2)]
    for config in alone:
        train(config)
    with ThreadPoolExecutor(2) as pool:
        records = list(pool.map(train, beside))
    assert [record["status"] for record in records] == ["finished"] * 2
    for one, other in zip(alone, beside, strict=True):
        assert final_state(one.folder) == final_state(other.folder)


@pytest.mark.parametrize("place", [in_thread, lambda action: action()], ids=["thread", "main"])
def test_the_program_can_stop_it_and_go_on(
    short_config: ShortConfig,
    monkeypatch: pytest.MonkeyPatch,
    place: Callable[[Callable[[], Any]], Any],
) -> None:
    whole, config, stop = short_config("whole"), short_config(), threading.Event()
    train(whole)
    advance = fakes.FakeAgent.advance

    def stopped(self: fakes.FakeAgent) -> None:
        advance(self)
        if self.env_steps == 240:
            stop.set()

    with monkeypatch.context() as patch:
        patch.setattr(fakes.FakeAgent, "advance", stopped)
        with pytest.raises(InterruptedTraining, match="stopped at 240 env steps") as caught:
            place(lambda: train(config, should_stop=stop.is_set))
    assert caught.value.exit_status == 128 + signal.SIGTERM
    assert read_result(config.folder / "result.json")["status"] == "running"
    place(lambda: train(config))
    assert final_state(config.folder) == final_state(whole.folder)


def test_one_stop_is_enough(short_config: ShortConfig) -> None:
    answers = iter([False, True])
    with pytest.raises(InterruptedTraining):
        train(short_config(), should_stop=lambda: next(answers, False))


def test_a_handler_that_python_cannot_put_back_stays(
    monkeypatch: pytest.MonkeyPatch, handlers: list[Any]
) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda signum: None)
    with Interrupts() as interrupts:
        monkeypatch.undo()
        assert present_handlers() == handlers
    assert interrupts.signum is None


def test_threads_of_one_process_do_not_share_a_folder(short_config: ShortConfig) -> None:
    config = short_config()
    with RunFolder(config.folder):
        with pytest.raises(
            RunFolderError, match="is in use by another training of this process"
        ):
            in_thread(lambda: train(config))
        with pytest.raises(
            RunFolderError, match="is in use by another training of this process"
        ):
            train(config)
    assert in_thread(lambda: train(config))["status"] == "finished"


Settings = tuple[int, bool, int]


def present() -> Settings:
    deterministic: Any = torch.utils.deterministic
    return (
        torch.get_deterministic_debug_mode(),
        deterministic.fill_uninitialized_memory,
        torch.get_num_threads(),
    )


@pytest.fixture(
    params=[(0, True, 2), (1, False, 2), (2, True, 3)], ids=["plain", "warn", "error"]
)
def own(request: pytest.FixtureRequest) -> Iterator[Settings]:
    """The program's own settings of PyTorch."""
    before = present()
    _apply(request.param)
    yield request.param
    _apply(before)


def _apply(settings: Settings) -> None:
    deterministic: Any = torch.utils.deterministic
    torch.set_deterministic_debug_mode(settings[0])
    deterministic.fill_uninitialized_memory = settings[1]
    torch.set_num_threads(settings[2])


def test_settings_are_given_back_after_training(
    short_config: ShortConfig, monkeypatch: pytest.MonkeyPatch, own: Settings
) -> None:
    advance, seen = fakes.FakeAgent.advance, set()

    def noted(self: fakes.FakeAgent) -> None:
        seen.add(present())
        advance(self)

    monkeypatch.setattr(fakes.FakeAgent, "advance", noted)
    train(short_config(torch_threads=1))
    assert seen == {(2, False, 1)}
    assert present() == own


def _fail(kind: type[BaseException]) -> Callable[[Any], None]:
    def advance(self: Any) -> None:
        raise kind

    return advance


def test_settings_are_given_back_after_failures(
    short_config: ShortConfig, monkeypatch: pytest.MonkeyPatch, own: Settings
) -> None:
    for kind in (ZeroDivisionError, KeyboardInterrupt, SystemExit):
        with monkeypatch.context() as patch, pytest.raises(kind):
            patch.setattr(fakes.FakeAgent, "advance", _fail(kind))
            train(short_config(torch_threads=1))
        assert present() == own
    with pytest.raises(InterruptedTraining):
        train(short_config(torch_threads=1), should_stop=lambda: True)
    assert present() == own
    with pytest.raises(TrainingDiverged):
        train(short_config("diverges", torch_threads=1, agent__nan_at=100))
    assert present() == own
    with pytest.raises(ValueError, match="backend must be one of"):
        train(short_config("none", torch_threads=1, backend="warp"))
    assert present() == own


def test_settings_are_those_from_before_after_an_evaluation_or_an_estimate(
    short_config: ShortConfig, own: Settings
) -> None:
    config = short_config(torch_threads=1)
    train(config)
    assert evaluate.main([str(config.folder)]) == 0
    assert present() == own
    calibrations = Calibrations()
    calibrations.run(config, 0.0)
    calibrations.close()
    assert present() == own


def test_the_last_of_overlapping_trainings_gives_settings_back(own: Settings) -> None:
    first, second = (torch_settings(torch.device("cpu"), threads) for threads in (4, None))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert present() == (2, False, 4)
    second.__exit__(None, None, None)
    assert present() == own


def test_a_gpu_leaves_the_choice_to_the_program(own: Settings) -> None:
    with torch_settings(torch.device("cuda"), None):
        assert present() == (own[0], False, own[2])
    assert present() == own


def test_random_streams_of_the_program_are_untouched(short_config: ShortConfig) -> None:
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    before: tuple[Any, Any] = torch.get_rng_state(), np.random.get_state()[1]  # type: ignore[index]  # noqa: NPY002
    record: Record = train(short_config())
    assert record["status"] == "finished"
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # type: ignore[index]  # noqa: NPY002
