"""Fixtures of the workbench's tests: the fakes in place of the real suites, and short runs with them."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mtrl import envs
from mtrl.settings.algorithms import ALGORITHMS
from mtrl.settings.config import TrainConfig
from mtrl.settings.presets import resolve
from tests.helpers import fakes
from tests.helpers.workbench import METHOD

SHORT: dict[str, Any] = {
    "suite": "mt10:fake",
    "method": METHOD,
    "total_env_steps": 600,
    "checkpoint_every": 180,
    "log_every": 60,
    "eval.every": 150,
    "eval.episodes_per_task": 4,
    "eval.envs_per_task": 2,
    "tensorboard": False,
    "device": "cpu",
}
ShortConfig = Callable[..., TrainConfig]


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake suites and the fake agent in place of the real ones."""
    monkeypatch.setitem(ALGORITHMS, "fake", fakes.ALGORITHM)
    for name in ("make_vec", "get_suite", "suite_ids"):
        monkeypatch.setattr(envs, name, getattr(fakes, name), raising=False)


@pytest.fixture
def short_config(faked: None, tmp_path: Path) -> ShortConfig:
    """Makes the configuration of a run of 200 vector steps; keywords with ``__`` for dots replace its settings."""

    def make(run: str = "run", **changes: Any) -> TrainConfig:
        changed = {key.replace("__", "."): value for key, value in changes.items()}
        return resolve({**SHORT, "run_dir": str(tmp_path / run), **changed})

    return make


@contextmanager
def limited_file_size(size: int) -> Iterator[None]:
    """Limits how large a file this process may write: the kernel's own refusal, as on a full disk.

    Keep the block short: the limit also holds for the log that the tests' output goes to.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
