"""A second device in the CPU's memory, so that what a GPU would refuse or wait for shows without one.

Its tensors compute what the CPU computes, but they say that they live on ``chip:0``. Every operation passes through
``Chip``, which refuses what a GPU refuses (operands of two devices) and notes what makes the host wait: copies between
the devices, numbers read by Python, and shapes that follow from data.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("chip")
CHIP = torch.device("chip", 0)

SHAPES_FROM_DATA = {
    "nonzero",
    "masked_select",
    "unique_consecutive",
    "_unique2",
    "unique_dim",
    "repeat_interleave.Tensor",
    "bincount",
    "histc",
}
WAITS = {"_local_scalar_dense", "is_nonzero", "equal"}
# Library routines that wait for the device to report success.
WAITING_SOLVERS = {
    "_linalg_eigh",
    "linalg_eig",
    "linalg_cholesky",
    "linalg_inv",
    "_linalg_svd",
    "linalg_lstsq",
    "_linalg_solve_ex",
    "linalg_lu_factor",
}
INDEXED = {
    "index.Tensor",
    "index_put.default",
    "index_put_.default",
    "_index_put_impl_.default",
}


class DeviceError(RuntimeError):
    """An operation that a GPU refuses."""


class OnChip(Tensor):
    """A tensor that says it lives on ``chip:0``; its numbers are those of ``inner``, on the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnChip:
        wrapper = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=CHIP,
        )
        wrapper.inner = inner
        return wrapper  # type: ignore[no-any-return]

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return _run(func, args, kwargs or {}, Log())


@dataclass
class Log:
    """What happened under ``Watch``.

    Attributes:
        operations: every operation on the chip: name, and the shapes and types of its operands and numbers.
        up, down: copies to and from the chip, with the line of our code that asked for them.
        waits: where Python waited for a number or a shape.
    """

    operations: list[tuple[Any, ...]] = field(default_factory=list)
    up: list[str] = field(default_factory=list)
    down: list[str] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)

    @property
    def crossings(self) -> list[str]:
        return self.up + self.down + self.waits


class Watch(TorchDispatchMode):
    """Runs what it encloses with ``chip`` as a device, and notes it in ``log``."""

    def __init__(self) -> None:
        super().__init__()
        self.log = Log()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return _run(func, args, kwargs or {}, self.log)

    @contextlib.contextmanager
    def part(self) -> Iterator[Log]:
        """A log of its own for a part."""
        before, self.log = self.log, Log()
        try:
            yield self.log
        finally:
            self.log = before


class ChipGenerator(torch.Generator):
    """A generator that says it lives on the device it was asked for."""

    def __new__(cls, device: Any = "cpu") -> ChipGenerator:
        made = super().__new__(cls, "cpu")
        made._where = torch.device(device)  # type: ignore[attr-defined]
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self._where  # type: ignore[attr-defined, no-any-return]


def to_chip(tree: Any) -> Any:
    """Tensors of a tree as tensors on the chip, which share their memory."""
    return tree_map(lambda leaf: OnChip(leaf) if isinstance(leaf, Tensor) else leaf, tree)


def to_cpu(tree: Any) -> Any:
    """Tensors of a tree with their numbers on the CPU."""
    return tree_map(lambda leaf: leaf.inner if isinstance(leaf, OnChip) else leaf, tree)


def use_chip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let agents be made with ``device="chip"``."""
    from mtrl.agents import agent

    known = agent.resolve_device

    def resolve(device: str | torch.device) -> torch.device:
        return CHIP if str(device).startswith("chip") else known(device)

    monkeypatch.setattr(agent, "resolve_device", resolve)
    monkeypatch.setattr(torch, "Generator", ChipGenerator)


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], log: Log) -> Any:
    leaves, _ = tree_flatten((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    wrapped = [tensor for tensor in tensors if isinstance(tensor, OnChip)]
    device = kwargs.get("device")
    goes_to_chip = bool(wrapped)
    if device is not None:
        goes_to_chip = torch.device(device).type == "chip"
        kwargs = kwargs | {"device": torch.device("cpu")}
    if not wrapped and not goes_to_chip:
        return func(*args, **kwargs)
    name = str(func).removeprefix("aten.")
    base = name.rpartition(".")[0]
    _note(name, base, tensors, goes_to_chip, log)
    if goes_to_chip:
        log.operations.append((name, *[_about(leaf) for leaf in leaves]))
    out = func(*to_cpu(args), **to_cpu(kwargs))
    written = _written(func, args, kwargs)
    if written is not None:
        return written
    return to_chip(out) if goes_to_chip else out


def _note(name: str, base: str, tensors: list[Tensor], goes_to_chip: bool, log: Log) -> None:
    """Refuse or note what a GPU refuses or waits for."""
    wrapped = [isinstance(tensor, OnChip) for tensor in tensors]
    if base in ("_to_copy", "copy_", "_copy_from"):
        source = wrapped[-1]
        if goes_to_chip and not source:
            log.up.append(_place(name))
        elif source and not (goes_to_chip and wrapped[0]):
            log.down.append(_place(name))
        return
    if base in WAITS or base in WAITING_SOLVERS:
        log.waits.append(_place(name))
        return
    if base in SHAPES_FROM_DATA or name in SHAPES_FROM_DATA:
        log.waits.append(_place(name))
    if name in INDEXED and any(t.dtype in (torch.bool, torch.uint8) for t in tensors[1:]):
        log.waits.append(_place(name))
    for tensor, on_chip in zip(tensors, wrapped):
        # A GPU takes a single number of the CPU's, but no more.
        if not on_chip and tensor.dim() > 0:
            shapes = [tuple(each.shape) for each in tensors]
            raise DeviceError(f"{name} of two devices, at {_place(name)}: {shapes}, {wrapped}")


def _about(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return leaf.dtype, tuple(leaf.shape)
    return "generator" if isinstance(leaf, torch._C.Generator) else str(leaf)


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The operand that an operation in place returns; None for other operations."""
    returned = func._schema.returns
    if not returned or returned[0].alias_info is None or not returned[0].alias_info.is_write:
        return None
    for index, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            return args[index] if index < len(args) else kwargs[argument.name]
    return None


def _place(name: str) -> str:
    """Operation and the innermost line of our own code that asked for it."""
    for frame in reversed(traceback.extract_stack()):
        if "/agents/" in frame.filename and "/tests/" not in frame.filename:
            file = frame.filename.rpartition("/agents/")[2]
            return f"{name} at agents/{file}:{frame.lineno}"
    return name
