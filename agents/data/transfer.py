"""Copies between the host and a device, step after step, through page-locked buffers in turn."""

from __future__ import annotations

from typing import Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from mtrl.agents.data.arrays import Array, to_tensor


class Event(Protocol):
    """A mark in the work that a device was given."""

    def record(self) -> None: ...

    def synchronize(self) -> None: ...


class Transfer:
    """Copies arrays to a device and tensors from it; use one for each kind of data.

    A GPU copies page-locked memory while Python goes on, so ``upload`` does not wait. There are two buffers: while
    one is copied, the other is filled. On a CPU nothing is copied.

    Args:
        device: where uploads go, and downloads come from.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.staged = device.type == "cuda"
        self._buffers: list[tuple[Tensor, Event]] = []

    def upload(self, array: Array) -> Tensor:
        """``array`` on the device; it may change afterwards, but not on a CPU, which shares it."""
        source = to_tensor(array)
        if not self.staged or not source.is_cpu:
            return source.to(self.device)
        buffer, event = self._next(source)
        buffer.copy_(source)
        moved = buffer.to(self.device, non_blocking=True)
        event.record()
        return moved

    def place(self, tensor: Tensor, device: torch.device | None) -> Array:
        """``tensor`` where an environment's arrays live: on its device, or for None as ``download`` gives it."""
        return self.download(tensor) if device is None else tensor.to(device)

    def download(self, tensor: Tensor) -> NDArray:
        """The numbers of ``tensor``; waits for the device. They hold until the call after the next."""
        if not self.staged:
            return tensor.cpu().numpy()
        buffer, event = self._next(tensor)
        buffer.copy_(tensor, non_blocking=True)
        event.record()
        event.synchronize()
        return buffer.numpy()

    def _next(self, like: Tensor) -> tuple[Tensor, Event]:
        """The buffer that was used longest ago, once its copy has ended, or a new one where the shape is another."""
        if len(self._buffers) < 2:
            self._buffers.append((self._room(like), self._event()))
            return self._buffers[-1]
        buffer, event = self._buffers.pop(0)
        # The device may still be reading this buffer.
        event.synchronize()
        if buffer.shape != like.shape or buffer.dtype != like.dtype:
            buffer = self._room(like)
        self._buffers.append((buffer, event))
        return buffer, event

    def _room(self, like: Tensor) -> Tensor:
        return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)

    def _event(self) -> Event:
        return torch.cuda.Event()
