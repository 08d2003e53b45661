"""Shared by all agents: seeds of random streams, task ids, action bounds, networks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mtrl.agents.aggregators import Aggregator
from mtrl.agents.aggregators.fixed import Mean
from mtrl.agents.data.arrays import Array, as_type, device_of, given, host, placed
from mtrl.agents.errors import AgentError, DivergedError
from mtrl.agents.networks.bodies.body import Body
from mtrl.agents.networks.encoder import Encoder, Identity
from mtrl.agents.networks.grid import GridEncoder
from mtrl.agents.networks.heads import Heads
from mtrl.agents.networks.layers import Activation, Size
from mtrl.agents.networks.memory import GRU
from mtrl.agents.networks.network import Network
from mtrl.agents.optim.precision import trunk_dtype
from mtrl.envs.specs import EnvSpec, GridLayout, task_depths
from mtrl.envs.vector import TaskVectorEnv

Networks = dict[str, dict[str, Tensor]]


def stream_seed(seed: int, index: int) -> int:
    """Derive a seed for one of the agent's random streams. Seeds of different indices are independent."""
    sequence = np.random.SeedSequence((seed, index))
    # 63 bits, so that the seed fits a signed integer.
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


def obs_rows(spec: EnvSpec, observation: ArrayLike | Tensor) -> Array:
    """Observations ``[D]`` or ``[n, D]`` as rows ``[n, D]``: categories as uint8, numbers as floats of any size.

    Tensors stay where they are; whatever else is given becomes an array of numpy.

    Raises:
        AgentError: no array of numbers, another shape, or unknown categories.
    """
    wanted = f"({spec.obs_dim},) or (n, {spec.obs_dim})"
    try:
        array = given(observation)
    except (TypeError, ValueError, RuntimeError):
        # Ragged lists, or lists of tensors on a GPU.
        array = np.array(None)
    if _kind(array) not in "fiu" or getattr(observation, "requires_grad", False):
        raise AgentError(
            f"observation: this {type(observation).__name__} is no array of numbers; give one of shape {wanted}, "
            "such as reset()[0]"
        )
    if array.ndim not in (1, 2) or array.shape[-1] != spec.obs_dim:
        shape = tuple(array.shape)
        raise AgentError(f"observation: shape {shape} does not fit; it must be {wanted}")
    rows = array.reshape(-1, spec.obs_dim)
    if spec.layout is not None:
        return _categories(spec.layout, rows)
    return rows if _kind(rows) == "f" else as_type(rows, "float32")


def _kind(array: Array) -> str:
    """numpy's letter for the kind of an array's or tensor's numbers."""
    if not isinstance(array, Tensor):
        return str(array.dtype.kind)
    if array.is_complex() or array.dtype == torch.bool:
        return "cb"
    return "f" if array.is_floating_point() else "i"


def _categories(layout: GridLayout, rows: Array) -> Array:
    if _kind(rows) not in "iu":
        raise AgentError(
            f"observation: {rows.dtype} holds no categories; give the environment's integers"
        )
    sizes = np.array(layout.sizes())
    unknown = (rows < 0) | (rows >= placed(sizes, device_of(rows)))
    if unknown.any():
        row, byte = np.argwhere(host(unknown))[0]
        kind = "mission token" if byte >= layout.num_bytes - layout.words else "category"
        raise AgentError(
            f"observation: {kind} {int(rows[row, byte])} at {byte} is unknown; it must be below {sizes[byte]}"
        )
    return as_type(rows, "uint8")


def make_network(
    spec: EnvSpec,
    body: Body,
    *,
    extra: int,
    actions: int = 0,
    width: int,
    depth: int,
    out_dim: int,
    num_tasks: int,
    num_heads: int,
    activation: Activation = "relu",
    channels: int = 32,
    memory: str = "none",
    follows: bool = False,
) -> Network:
    """The network for a suite's observations, ``extra`` further inputs and the components of an action.

    On MiniGrid the body stands behind an encoder of views, and ``memory="gru"`` adds recurrence.

    Args:
        num_tasks: T; 1 where every task has networks of its own.
        num_heads: T for one head a task, 1 for one that all tasks share.
        follows: whether it is an actor's, see ``Network``.

    Raises:
        AgentError: memory on a suite other than MiniGrid.
    """
    columns = spec.obs_dim + extra + actions
    encoder: Encoder = Identity(columns)
    if spec.layout is not None:
        encoder = GridEncoder(columns, spec.layout, channels)
    elif memory != "none":
        raise AgentError(
            f"memory: {memory!r} is offered on MiniGrid only; use none for {spec.suite}"
        )
    # Where tasks have networks of their own, one network is built for all of them.
    names = spec.task_names if num_tasks == spec.num_tasks else ()
    inputs = body.num_inputs(encoder.num_features, num_tasks)
    depths = task_depths(names, spec.builds_on) if names else ()
    size = Size(inputs, width, depth, activation, num_tasks, names, actions, depths)
    features = body.num_features(size)
    recurrent = None
    if memory != "none":
        recurrent = GRU(features, width)
        features = width
    heads = Heads(features, out_dim, num_heads)
    return Network(encoder, body, size, heads, recurrent, follows)


def task_ids(
    spec: EnvSpec, env: TaskVectorEnv | None, rows: int, task_id: Array | None
) -> NDArray[np.int64]:
    """Task of each of ``rows`` observations, where it is given or can be known. Raises AgentError otherwise."""
    if task_id is not None:
        ids = np.asarray(host(task_id))
        if ids.dtype.kind not in "iu" or ids.shape not in ((), (1,), (rows,)):
            raise AgentError(
                f"task_id: {ids.dtype} of shape {ids.shape} is neither an integer nor one for each of "
                f"{rows} observations"
            )
        tasks = np.broadcast_to(ids.astype(np.int64), (rows,)).copy()
        outside = (tasks < 0) | (tasks >= spec.num_tasks)
        if outside.any():
            raise AgentError(
                f"task_id: {tasks[outside][0]} is out of range; it must be 0 to {spec.num_tasks - 1}"
            )
        return tasks
    if spec.num_tasks == 1:
        return np.zeros(rows, dtype=np.int64)
    if env is not None and rows == env.num_envs:
        return env.task_id
    raise AgentError(
        f"task_id: needed for {rows} observations, since the agent knows {spec.num_tasks} tasks"
    )


def scale_action(spec: EnvSpec, action: Array) -> Array:
    """Actions in [-1, 1] (clipped to it) as actions within the bounds of the environment, float32."""
    low, size = _range(spec.action_low, spec.action_high, device_of(action))
    share = (action.clip(-1, 1) + 1) * 0.5
    return as_type(low + share * size, "float32")


@cache
def _range(
    low: tuple[float, ...], high: tuple[float, ...], device: torch.device | None
) -> tuple[Array, Array]:
    """Lower bounds and widths in float64, on ``device``; kept, for every step needs them."""
    lowest = np.array(low)
    return placed(lowest, device), placed(np.array(high) - lowest, device)


def refuse_aggregator(
    heads: str, precision: str, aggregators: tuple[Aggregator, Aggregator]
) -> None:
    """Raise AgentError for aggregators that do not go with the other settings.

    Tasks with agents of their own have no shared gradient, and ``bf16`` would round away small steps.
    """
    for aggregator in aggregators:
        if precision == "bf16" and takes_small_steps(aggregator):
            raise AgentError(
                f"precision: 'bf16' rounds away the steps of aggregator {aggregator.info.name!r}; use auto or fp32"
            )
        if heads == "separate" and not isinstance(aggregator, Mean):
            raise AgentError(
                f"aggregator: {aggregator.info.name!r} has no shared gradient to act on with heads=separate; use mean"
            )


def takes_small_steps(aggregator: Aggregator) -> bool:
    """Whether gradients are compared at parameters so close to each other that bfloat16 cannot tell them apart."""
    return "perturbed_jacobian" in aggregator.info.needs


def update_dtype(
    precision: str, aggregators: tuple[Aggregator, Aggregator], device: torch.device
) -> torch.dtype:
    """The dtype of the trunks' products in updates."""
    if any(map(takes_small_steps, aggregators)):
        return torch.float32
    return trunk_dtype(precision, device)


def finite_networks(networks: Networks) -> dict[str, Tensor]:
    """Whether each tensor of the networks and their optimizers is finite, by name, on their device."""
    return {
        f"{network}.{name}": torch.isfinite(tensor).all()
        for network, tensors in networks.items()
        for name, tensor in tensors.items()
        if not network.endswith("_tasks")
    }


def refuse_infinite(finite: Mapping[str, ArrayLike], gradient_steps: int) -> None:
    """Raise DivergedError, naming the first tensor that is not ``finite``."""
    for name, answer in finite.items():
        if not answer:
            raise DivergedError(f"{name} is not finite after {gradient_steps} gradient steps")
