"""Experiment trackers that copy what goes to TensorBoard."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from mtrl.envs.errors import choices
from mtrl.errors import ConfigError, WorkbenchError
from mtrl.settings.config import TrainConfig

TRACKERS = ("wandb",)


def check_tracker(name: str, configs: Sequence[TrainConfig]) -> None:
    """Raises ConfigError for an unknown tracker, several runs in one process, or a run without TensorBoard."""
    if name not in TRACKERS:
        raise ConfigError(f"track: {name!r} is unknown; {choices(name, TRACKERS)}")
    if len(configs) > 1:
        raise ConfigError("track: follows one run a process; start every seed by itself")
    if not configs[0].tensorboard:
        raise ConfigError("track: copies what goes to TensorBoard, and tensorboard is false")


@contextlib.contextmanager
def tracked(name: str | None, configs: Sequence[TrainConfig]) -> Iterator[None]:
    """Track the run of the body; nothing happens where ``name`` is None.

    A continued run keeps its id in the tracker. The id is a function of the configuration and the folder.

    Raises:
        ConfigError: as ``check_tracker``.
        WorkbenchError: the tracker's package is missing.
    """
    if name is None:
        yield
        return
    check_tracker(name, configs)
    run = _start(configs[0])
    try:
        yield
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()


def _start(config: TrainConfig) -> Any:
    try:
        import wandb
    except ImportError:
        raise WorkbenchError(
            "track: needs the package wandb; install it with: pip install wandb"
        ) from None
    place = hashlib.sha256(str(config.folder.resolve()).encode()).hexdigest()[:8]
    # Before TensorBoard's writer is made, which it patches.
    return wandb.init(
        project="mtrl",
        id=f"{config.run_id}_{place}",
        name=config.run_id,
        group=f"{config.suite} {config.method}",
        config=config.flat(),
        resume="allow",
        sync_tensorboard=True,
    )
