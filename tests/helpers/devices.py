"""A device that is none: tensors labelled ``meta`` whose numbers lie on the CPU, and environments with such arrays.

As on a GPU, operations refuse operands on two devices, and numpy cannot read the tensors. Beyond that, it is an error
to ask for a single number, which would wait for a GPU, and copies to other devices are counted. Sums are numpy's, whose
order of adding is not torch's, so that runs can be compared bit for bit. All of it needs ``with DEVICE:`` around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from mtrl.envs import TaskVectorEnv

LABEL = torch.device("meta")


class DeviceTensor(Tensor):
    """Numbers that only operations of ``Device`` reach."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> DeviceTensor:
        made: DeviceTensor = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.shape,
            inner.stride(),
            inner.storage_offset(),
            dtype=inner.dtype,
            device=LABEL,
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return DEVICE.run(function, args, kwargs or {})


class Device(TorchDispatchMode):
    """Runs operations on its tensors, and makes tensors where they are asked for on ``LABEL``.

    Attributes:
        crossings: copies of its tensors to other devices so far.
    """

    crossings = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if DeviceTensor in types or kwargs.get("device") == LABEL:
            return self.run(function, args, kwargs)
        return function(*args, **kwargs)

    def run(self, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        leaves = tree_leaves((args, kwargs))
        own = [leaf for leaf in leaves if isinstance(leaf, DeviceTensor)]
        device = kwargs.get("device")
        name = function.overloadpacket.__name__
        if name == "_local_scalar_dense":
            raise AssertionError("the host waits for a number of the device")
        if name not in ("copy_", "_to_copy"):
            _refuse_two_devices(name, leaves)
        args, kwargs = tree_map_only(DeviceTensor, lambda tensor: tensor.inner, (args, kwargs))
        if device is not None:
            kwargs["device"] = torch.device("cpu")
        out = _sum(name, *args) if name in ("sum", "mean") else function(*args, **kwargs)
        if device not in (None, LABEL):
            self.crossings += 1
            return out.clone()
        # What an operation changes in place is the tensor that it was given.
        given = {id(tensor.inner): tensor for tensor in own}
        return tree_map_only(
            Tensor,
            lambda made: given[id(made)] if id(made) in given else DeviceTensor(made),
            out,
        )


def _sum(name: str, tensor: Tensor, axes: list[int]) -> Tensor:
    return torch.from_numpy(np.asarray(getattr(tensor.numpy(), name)(tuple(axes))))


def _refuse_two_devices(name: str, leaves: list[Any]) -> None:
    """Single numbers may come from the host."""
    for leaf in leaves:
        if isinstance(leaf, Tensor) and not isinstance(leaf, DeviceTensor) and leaf.dim():
            raise AssertionError(f"{name} has operands on two devices")


DEVICE = Device()


class DeviceEnv(TaskVectorEnv):
    """An environment of numpy whose arrays live on ``DEVICE``."""

    device = LABEL

    def __init__(self, env: TaskVectorEnv) -> None:
        observations, actions = env.single_observation_space, env.single_action_space
        super().__init__(env.suite, env.envs_per_task, observations, actions)
        self.env = env
        self.backend, self.exact_state = "device", env.exact_state
        self.obs_layout = getattr(env, "obs_layout", None)

    def reset(
        self, *, seed: int | None = None, options: Any = None
    ) -> tuple[Any, dict[str, Any]]:
        return _on_device(self.env.reset(seed=seed, options=options)[0]), {}

    def rebase(self, boundary: int) -> Any:
        return _on_device(self.env.rebase(boundary))

    def step_async(self, actions: Any) -> None:
        assert isinstance(actions, DeviceTensor)
        self.env.step_async(actions.inner.numpy())

    def step_wait(self) -> Any:
        *arrays, info = self.env.step_wait()
        return *map(_on_device, arrays), {name: _on_device(info[name]) for name in INFO}

    def pause(self, tasks: NDArray[np.bool_]) -> None:
        self.env.pause(tasks)

    def state_dict(self) -> dict[str, NDArray]:
        return self.env.state_dict()

    def load_state_dict(self, state: Mapping[str, NDArray]) -> None:
        self.env.load_state_dict(state)


INFO = ("success", "final_obs", "_final_obs")


def _on_device(array: NDArray) -> DeviceTensor:
    return DeviceTensor(torch.from_numpy(array.copy()))
