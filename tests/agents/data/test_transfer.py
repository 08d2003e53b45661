"""Copies through two buffers in turn: what arrives is what was sent, and no buffer changes while it is copied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtrl.agents.data.transfer import Event, Transfer, fetch

CPU = torch.device("cpu")


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
        super().__init__(CPU)
        self.packs = self.pinned = True
        self.events: list[FakeEvent] = []

    def _room(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.empty(tuple(shape), dtype=dtype)

    def _event(self) -> Event:
        self.events.append(FakeEvent())
        return self.events[-1]


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int64])
def test_what_arrives_is_what_was_sent(dtype: Any) -> None:
    plain, staged = Transfer(CPU), Staged()
    for step in range(5):
        array = np.arange(6, dtype=dtype).reshape(2, 3) + step
        (arrived,) = staged.upload(array.copy())
        assert torch.equal(arrived, torch.from_numpy(array))
        tensor = torch.from_numpy(array)
        assert np.array_equal(staged.download(tensor), plain.download(tensor))


def test_arrays_of_any_types_and_shapes_go_up_in_one_copy() -> None:
    staged = Staged()
    sent: list[Any] = [
        np.arange(5, dtype=np.uint8),
        torch.arange(6.0).view(2, 3).T,
        None,
        np.array([True, False, True]),
        np.zeros((0, 4), np.float32),
        np.float64([[1 / 3]]),
    ]
    arrived = staged.upload(*sent)
    assert [event.recorded for event in staged.events] == [1]
    assert arrived[2] is None
    for before, after in zip(sent, arrived, strict=True):
        if before is not None:
            expected = torch.as_tensor(before)
            assert after.dtype == expected.dtype and torch.equal(after, expected)


def test_a_cpu_gets_the_very_same_arrays() -> None:
    array, tensor = np.zeros(2), torch.zeros(3)
    first, second, none = Transfer(CPU).upload(array, tensor, None)
    assert first is array and second is tensor and none is None


def test_two_buffers_take_turns_and_wait_before_they_are_filled_again() -> None:
    transfer = Staged()
    sent = [transfer.upload(np.full(3, step, np.float32))[0] for step in range(2)]
    # Without a copy by the device, an upload shows its buffer itself.
    assert sent[0].data_ptr() != sent[1].data_ptr()
    assert [event.waited for event in transfer.events] == [0, 0]
    (third,) = transfer.upload(np.full(3, 2, np.float32))
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
    for size in (2, 9, 16, 2):
        (arrived,) = transfer.upload(np.full(size, size, np.float32))
        assert arrived.tolist() == [size] * size
    assert len(transfer.events) == 2


def test_numbers_of_several_tensors_are_fetched_together() -> None:
    flag, matrix = fetch([torch.tensor(True), torch.tensor([[0.5, 2.0]])])
    assert flag == 1 and np.array_equal(matrix, [[0.5, 2.0]])
    assert fetch([]) == []
