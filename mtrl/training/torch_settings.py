"""Set PyTorch's options of the whole process during a training, and restore the caller's afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import torch

_deterministic: Any = torch.utils.deterministic


@dataclasses.dataclass(frozen=True)
class _Settings:
    """The options that trainings change.

    Attributes:
        debug_mode: of ``torch.set_deterministic_debug_mode``.
        fill: whether new tensors are filled, so that reading them too early cannot go unnoticed.
        threads: of PyTorch on the CPU.
    """

    debug_mode: int
    fill: bool
    threads: int

    @classmethod
    def now(cls) -> _Settings:
        return cls(
            torch.get_deterministic_debug_mode(),
            _deterministic.fill_uninitialized_memory,
            torch.get_num_threads(),
        )

    def restore(self) -> None:
        torch.set_deterministic_debug_mode(self.debug_mode)
        _deterministic.fill_uninitialized_memory = self.fill
        torch.set_num_threads(self.threads)


_guard = threading.Lock()
_under_way: list[_Settings] = []  # for each training, what the first one found


@contextlib.contextmanager
def torch_settings(device: torch.device, threads: int | None) -> Iterator[None]:
    """Set PyTorch's global options for training on ``device``, and restore the earlier ones afterwards.

    On a CPU, operations whose result is not reproducible become errors; on a GPU the caller's choice stands. The
    settings belong to the process: code in other threads sees them too, and of trainings that overlap in threads the
    last to end restores what the first found.

    Args:
        threads: CPU threads of PyTorch; None leaves them.
    """
    with _guard:
        _under_way.append(_under_way[0] if _under_way else _Settings.now())
        # Unlike use_deterministic_algorithms, this does not import the compiler (two seconds of CPU).
        if device.type == "cpu":
            torch.set_deterministic_debug_mode("error")
        _deterministic.fill_uninitialized_memory = False
        if threads:
            torch.set_num_threads(threads)
    try:
        yield
    finally:
        with _guard:
            found = _under_way.pop()
            if not _under_way:
                found.restore()
