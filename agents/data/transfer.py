"""Copies between the host and a device, step after step: few, and through page-locked buffers in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeGuard

import torch
from numpy.typing import NDArray
from torch import Tensor

from mtrl.agents.data.arrays import Array, placed, to_tensor

ALIGNMENT = 16  # bytes; every type of number may begin at a multiple of its own size


class Event(Protocol):
    """A mark in the work that a device was given."""

    def record(self) -> None: ...

    def synchronize(self) -> None: ...


class Transfer:
    """Copies arrays to a device and tensors from it; use one for each direction.

    What goes up together is packed into one buffer of bytes, which crosses in one copy. A GPU copies page-locked memory
    while Python goes on, so ``upload`` does not wait. There are two buffers: while one is copied, the other is filled.
    On a CPU nothing is copied.

    Args:
        device: where uploads go, and downloads come from.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.packs = device.type != "cpu"
        self.pinned = device.type == "cuda"
        self._buffers: list[tuple[Tensor, Event]] = []

    def upload(self, *arrays: Array | None) -> list[Array]:
        """``arrays`` with those of the host on the device; None, and what is on a device already, stays as it is.

        They may change afterwards, but not on a CPU, which gets the very same arrays.
        """
        if not self.packs:
            return list(arrays)
        given = [None if array is None else to_tensor(array) for array in arrays]
        moved = iter(self._moved([each for each in given if _is_of_host(each)]))
        return [next(moved) if _is_of_host(each) else each for each in given]

    def place(self, tensor: Tensor, device: torch.device | None) -> Array:
        """``tensor`` where an environment's arrays live: on its device, or for None as ``download`` gives it."""
        return self.download(tensor) if device is None else tensor.to(device)

    def download(self, tensor: Tensor) -> NDArray:
        """The numbers of ``tensor``; waits for the device. They hold until the call after the next."""
        if not self.pinned:
            found: NDArray = placed(tensor, None)
            return found
        buffer, event = self._next(tensor.shape, tensor.dtype)
        buffer.copy_(tensor, non_blocking=True)
        event.record()
        event.synchronize()
        return buffer.numpy()

    def _moved(self, sources: Sequence[Tensor]) -> list[Tensor]:
        """Tensors of the host on the device, by one copy of a buffer that holds them all."""
        if not sources:
            return []
        sizes = packed_sizes(sources)
        buffer, event = self._next((sum(sizes),), torch.uint8)
        for part, source in zip(unpack(buffer, sources), sources):
            part.copy_(source)
        moved = buffer.to(self.device, non_blocking=self.pinned)
        event.record()
        return unpack(moved, sources)

    def _next(self, shape: Sequence[int], dtype: torch.dtype) -> tuple[Tensor, Event]:
        """The buffer that was used longest ago, once its copy has ended, or a new one where the shape is another."""
        if len(self._buffers) < 2:
            self._buffers.append((self._room(shape, dtype), self._event()))
            return self._buffers[-1]
        buffer, event = self._buffers.pop(0)
        # The device may still be reading this buffer.
        event.synchronize()
        if buffer.shape != torch.Size(shape) or buffer.dtype != dtype:
            buffer = self._room(shape, dtype)
        self._buffers.append((buffer, event))
        return buffer, event

    def _room(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=self.pinned)

    def _event(self) -> Event:
        return torch.cuda.Event() if self.pinned else Done()


class Done:
    """The mark of copies that Python waits for anyway."""

    def record(self) -> None:
        pass

    def synchronize(self) -> None:
        pass


def packed_sizes(like: Sequence[Tensor]) -> list[int]:
    """Bytes that each of these tensors takes in a buffer that holds them one after the other."""
    return [-(-tensor.nbytes // ALIGNMENT) * ALIGNMENT for tensor in like]


def unpack(buffer: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The parts of ``buffer``, uint8 of the sum of ``packed_sizes``, with the shapes and types of ``like``."""
    parts = buffer.split(packed_sizes(like))
    return [
        part[: tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        for part, tensor in zip(parts, like, strict=True)
    ]


def fetch(tensors: Sequence[Tensor]) -> list[NDArray]:
    """Numbers of tensors of one device in float64, copied together, so that the device is waited for once."""
    if not tensors:
        return []
    joined = torch.cat([tensor.flatten().double() for tensor in tensors]).cpu()
    parts = joined.split([tensor.numel() for tensor in tensors])
    return [
        part.view(tensor.shape).numpy() for part, tensor in zip(parts, tensors, strict=True)
    ]


def _is_of_host(tensor: Tensor | None) -> TypeGuard[Tensor]:
    return tensor is not None and tensor.is_cpu
