"""A second device in the CPU's memory, so that what a GPU would refuse or wait for shows without one.

Its tensors compute what the CPU computes, but they say that they live on ``chip:0``. Every operation passes through
``Watch``, which refuses what a GPU refuses (operands of two devices) and notes what makes the host wait: copies between
the devices, numbers read by Python, and shapes that follow from data.

``ChipEnv`` is an environment whose arrays live there. Sums of float64, in which such arrays are counted, are numpy's,
whose order of adding is not torch's, so that runs can be compared with those on numpy's arrays bit for bit.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from mtrl.envs import TaskVectorEnv

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
        operations: every operation on the chip: name, and the shapes and types of its operands and numbers; None where
            that is not noted.
        up, down: copies to and from the chip, with the line of our code that asked for them.
        waits: where Python waited for a number or a shape.
    """

    operations: list[tuple[Any, ...]] | None = None
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
        before, self.log = self.log, Log([])
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
    """Tensors of nested tuples and lists as tensors on the chip, which share their memory."""
    if isinstance(tree, tuple | list):
        return type(tree)([to_chip(part) for part in tree])
    return OnChip(tree) if isinstance(tree, Tensor) else tree


def to_cpu(tree: Any) -> Any:
    """Tensors of nested tuples (named ones too) and lists with their numbers on the CPU."""
    if hasattr(tree, "_fields"):
        return type(tree)(*map(to_cpu, tree))
    if isinstance(tree, tuple | list):
        return type(tree)([to_cpu(part) for part in tree])
    return tree.inner if isinstance(tree, OnChip) else tree


def use_chip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let agents be made with ``device="chip"``."""
    from mtrl.agents import agent

    known = agent.resolve_device

    def resolve(device: str | torch.device) -> torch.device:
        return CHIP if str(device).startswith("chip") else known(device)

    monkeypatch.setattr(agent, "resolve_device", resolve)
    monkeypatch.setattr(torch, "Generator", ChipGenerator)


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], log: Log) -> Any:
    leaves = _leaves((*args, *kwargs.values()))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    goes_to_chip = any(isinstance(tensor, OnChip) for tensor in tensors)
    comes_from_chip = goes_to_chip
    device = kwargs.get("device")
    if device is not None:
        goes_to_chip = torch.device(device).type == "chip"
        kwargs = kwargs | {"device": torch.device("cpu")}
    if not comes_from_chip and not goes_to_chip:
        return func(*args, **kwargs)
    name, base, written = _about_operation(func)
    _note(name, base, tensors, goes_to_chip, log)
    if goes_to_chip and log.operations is not None:
        log.operations.append((name, *[_about(leaf) for leaf in leaves]))
    inner = {key: to_cpu(value) for key, value in kwargs.items()}
    out = _computed(func, base, to_cpu(args), inner)
    if written is not None:
        # What an operation changes in place is the tensor that it was given.
        place, key = written
        return args[place] if place < len(args) else kwargs[key]
    return to_chip(out) if goes_to_chip else out


def _leaves(tree: Any) -> list[Any]:
    """What stands in nested tuples and lists."""
    found = []
    for part in tree:
        if isinstance(part, tuple | list):
            found += _leaves(part)
        else:
            found.append(part)
    return found


@cache
def _about_operation(func: Any) -> tuple[str, str, tuple[int, str] | None]:
    """Its name, the same without the overload, and place and name of the operand that it writes and returns."""
    name = str(func).removeprefix("aten.")
    return name, name.rpartition(".")[0], _written(func)


def _computed(func: Any, base: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    is_sum = base in ("sum", "mean") and len(args) == 2 and args[0].dtype == torch.float64
    if not is_sum:
        return func(*args, **kwargs)
    added = getattr(args[0].numpy(), base)(tuple(args[1]))
    return torch.from_numpy(np.asarray(added))


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


def _written(func: Any) -> tuple[int, str] | None:
    """The operand that an operation in place returns; None for other operations."""
    returned = func._schema.returns
    if not returned or returned[0].alias_info is None or not returned[0].alias_info.is_write:
        return None
    for index, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            return index, argument.name
    return None


def _place(name: str) -> str:
    """Operation and the innermost line of our own code that asked for it."""
    frame = sys._getframe()
    while frame is not None:
        file = frame.f_code.co_filename
        if "/agents/" in file and "/tests/" not in file:
            return f"{name} at agents/{file.rpartition('/agents/')[2]}:{frame.f_lineno}"
        frame = frame.f_back
    return name


class ChipEnv(TaskVectorEnv):
    """An environment of numpy whose arrays live on the chip. It needs a ``Watch`` around it."""

    device = CHIP

    def __init__(self, env: TaskVectorEnv) -> None:
        observations, actions = env.single_observation_space, env.single_action_space
        super().__init__(env.suite, env.envs_per_task, observations, actions)
        self.env = env
        self.backend, self.exact_state = "device", env.exact_state
        self.obs_layout = getattr(env, "obs_layout", None)

    def reset(
        self, *, seed: int | None = None, options: Any = None
    ) -> tuple[Any, dict[str, Any]]:
        return _on_chip(self.env.reset(seed=seed, options=options)[0]), {}

    def rebase(self, boundary: int) -> Any:
        return _on_chip(self.env.rebase(boundary))

    def step_async(self, actions: Any) -> None:
        assert isinstance(actions, OnChip)
        self.env.step_async(actions.inner.numpy())

    def step_wait(self) -> Any:
        *arrays, info = self.env.step_wait()
        return *map(_on_chip, arrays), {name: _on_chip(info[name]) for name in INFO}

    def pause(self, tasks: NDArray[np.bool_]) -> None:
        self.env.pause(tasks)

    def state_dict(self) -> dict[str, NDArray]:
        return self.env.state_dict()

    def load_state_dict(self, state: Mapping[str, NDArray]) -> None:
        self.env.load_state_dict(state)


INFO = ("success", "final_obs", "_final_obs")


def _on_chip(array: NDArray) -> OnChip:
    return OnChip(torch.from_numpy(array.copy()))
