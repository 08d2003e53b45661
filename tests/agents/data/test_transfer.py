"""Copies through two buffers in turn: what arrives is what was sent, and no buffer changes while it is copied."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtrl.agents.data.transfer import Event, Transfer


class FakeEvent:
    """An event that counts how often it was waited for."""

    def __init__(self) -> None:
        self.recorded = self.waited = 0

    def record(self) -> None:
        self.recorded += 1

    def synchronize(self) -> None:
        self.waited += 1


class Staged(Transfer):
    """Copies through buffers that are not page-locked, and notes its events."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.staged = True
        self.events: list[FakeEvent] = []

    def _room(self, like: Tensor) -> Tensor:
        return torch.empty_like(like)

    def _event(self) -> Event:
        self.events.append(FakeEvent())
        return self.events[-1]


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int64])
def test_what_arrives_is_what_was_sent(dtype: Any) -> None:
    plain, staged = Transfer(torch.device("cpu")), Staged()
    for step in range(5):
        array = np.arange(6, dtype=dtype).reshape(2, 3) + step
        assert torch.equal(staged.upload(array.copy()), plain.upload(array))
        tensor = torch.from_numpy(array)
        assert np.array_equal(staged.download(tensor), plain.download(tensor))


def test_two_buffers_take_turns_and_wait_before_they_are_filled_again() -> None:
    transfer = Staged()
    sent = [transfer.upload(np.full(3, step, np.float32)) for step in range(2)]
    # Without a copy by the device, an upload shows its buffer itself.
    assert sent[0].data_ptr() != sent[1].data_ptr()
    assert [event.waited for event in transfer.events] == [0, 0]
    third = transfer.upload(np.full(3, 2, np.float32))
    assert third.data_ptr() == sent[0].data_ptr() and sent[1].tolist() == [1, 1, 1]
    assert [event.waited for event in transfer.events] == [1, 0]
    assert [event.recorded for event in transfer.events] == [2, 1]


def test_a_download_holds_until_the_call_after_the_next() -> None:
    transfer = Staged()
    first = transfer.download(torch.ones(2))
    transfer.download(torch.full((2,), 2.0))
    assert first.tolist() == [1, 1]
    assert [event.waited for event in transfer.events] == [1, 1]


def test_another_shape_gets_another_buffer() -> None:
    transfer = Staged()
    for size in (2, 3, 4, 2):
        assert transfer.upload(np.full(size, size, np.float32)).tolist() == [size] * size
    assert len(transfer.events) == 2
