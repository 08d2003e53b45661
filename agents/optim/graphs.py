"""Updates as recorded graphs: the kernels of one call, launched again on the same buffers without Python between them.

An update launches thousands of small kernels, and on a GPU their launching takes longer than their work. A recorded
update reads its inputs from buffers that stay where they are, and writes its state in place. It can be recorded where
it waits for nothing, its shapes are fixed, and nothing but tensors differs between its calls.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from mtrl.agents.errors import AgentError
from mtrl.agents.state import clone, map_leaves

GraphMode = Literal["auto", "on", "off"]
State = dict[str, dict[str, Tensor]]
Inputs = TypeVar("Inputs")
Function = Callable[[State, Any], Any]
Recorder = Callable[[Callable[[], Any], State], Callable[[], Any]]
"""Records a call that changes a state; returns what repeats it."""

WARMUPS = 2  # calls before the recording, in which libraries choose their kernels and allocate
MOST = 4  # recordings that are kept: states and shapes seldom change


def uses_graphs(mode: str, device: torch.device, obstacle: str | None) -> bool:
    """Whether updates on ``device`` are recorded.

    Args:
        mode: ``auto`` records on a GPU where nothing stands in the way, ``on`` insists, ``off`` never does.
        obstacle: why the update cannot be recorded; None if it can.

    Raises:
        AgentError: an unknown mode, or ``on`` where updates cannot be recorded.
    """
    if mode not in ("auto", "on", "off"):
        raise AgentError(f"graph: {mode!r} is unknown; use auto, on or off")
    on_gpu = device.type == "cuda"
    if mode == "on" and not on_gpu:
        raise AgentError(
            f"graph: 'on' records CUDA graphs, and the device is {device.type}; use auto or off, or a GPU"
        )
    if mode == "on" and obstacle is not None:
        raise AgentError(f"graph: 'on' cannot record this update, since {obstacle}; use auto")
    return mode != "off" and on_gpu and obstacle is None


class Graph:
    """A function of a state and of inputs, recorded at the first call with a state and shapes, and repeated later.

    What it returns is overwritten by the next call.

    Args:
        function: changes the state's tensors, or replaces them, and returns a tree of tensors. It depends on nothing
            else that changes.
        record: ``record_on_gpu``, or ``record_by_call``.
    """

    def __init__(self, function: Function, record: Recorder) -> None:
        self._function, self._record = function, record
        self._recordings: list[_Recording] = []

    def __call__(self, state: State, inputs: Any) -> Any:
        shapes = _shapes(inputs)
        for recording in self._recordings:
            if recording.is_of(state, shapes):
                break
        else:
            recording = _Recording(self._function, self._record, state, inputs, shapes)
            self._recordings = [recording, *self._recordings[: MOST - 1]]
        return recording.repeat(inputs)


class _Recording:
    """One recorded call.

    The tensors of the state and the input buffers are held, so that their addresses stay theirs.
    """

    def __init__(
        self, function: Function, record: Recorder, state: State, inputs: Any, shapes: Any
    ) -> None:
        self._tensors = _tensors(state)
        self._shapes = shapes
        self._buffers = clone(inputs)
        self._replay = record(partial(in_place, function, state, self._buffers), state)

    def is_of(self, state: State, shapes: Any) -> bool:
        tensors = _tensors(state)
        return (
            shapes == self._shapes
            and len(tensors) == len(self._tensors)
            and all(one is other for one, other in zip(tensors, self._tensors))
        )

    def repeat(self, inputs: Any) -> Any:
        map_leaves(_copy, self._buffers, inputs)
        return self._replay()


def in_place(function: Function, state: State, inputs: Any) -> Any:
    """``function(state, inputs)``, with what it replaced in ``state`` copied into the tensors that were there."""
    before = dict(state)
    out = function(state, inputs)
    for net, tensors in before.items():
        for name, tensor in tensors.items():
            new = state[net][name]
            # A recorded call writes to fixed addresses, so a new tensor would be lost.
            if new is not tensor:
                with torch.no_grad():
                    tensor.copy_(new)
        state[net] = tensors
    return out


def record_on_gpu(work: Callable[[], Any], state: State) -> Callable[[], Any]:
    """A CUDA graph of ``work``; ``state`` is afterwards as it was."""
    # The calls that warm up would train; the state is put back before recording.
    kept = clone(state)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARMUPS):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    map_leaves(_copy, state, kept)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            out = work()
    except RuntimeError as error:
        raise AgentError(
            f"graph: this update cannot be recorded as a CUDA graph ({error}); use off"
        ) from error

    def replay() -> Any:
        graph.replay()
        return out

    return replay


def record_by_call(work: Callable[[], Any], state: State) -> Callable[[], Any]:
    """A stand-in without a GPU: repeats the call itself, which sees the buffers and nothing else of its caller."""
    return work


def _copy(buffer: Any, value: Any) -> Any:
    if isinstance(buffer, Tensor):
        with torch.no_grad():
            buffer.copy_(value)
    return buffer


def _tensors(state: State) -> list[Tensor]:
    return [tensor for tensors in state.values() for tensor in tensors.values()]


def _shapes(inputs: Any) -> Any:
    """A tree of the shapes and types of tensors, and of other leaves as they are."""
    found: list[Any] = []

    def look(leaf: Any) -> Any:
        found.append((leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf)
        return leaf

    map_leaves(look, inputs)
    return found
