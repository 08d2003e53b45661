"""Shared by all agents: seeds of random streams, task ids, action bounds, networks."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mtrl.agents.aggregators import Aggregator
from mtrl.agents.aggregators.fixed import Mean
from mtrl.agents.data.spec import EnvSpec
from mtrl.agents.errors import AgentError, DivergedError
from mtrl.agents.networks.bodies.body import Body
from mtrl.agents.networks.encoder import Encoder, Identity
from mtrl.agents.networks.grid import GridEncoder, GridLayout
from mtrl.agents.networks.heads import Heads
from mtrl.agents.networks.layers import Activation, Size
from mtrl.agents.networks.memory import GRU
from mtrl.agents.networks.network import Network
from mtrl.agents.optim.precision import trunk_dtype
from mtrl.envs.vector import TaskVectorEnv

Networks = dict[str, dict[str, Tensor]]


def stream_seed(seed: int, index: int) -> int:
    """Derive a seed for one of the agent's random streams. Seeds of different indices are independent."""
    sequence = np.random.SeedSequence((seed, index))
    # 63 bits, so that the seed fits a signed integer.
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


def obs_rows(spec: EnvSpec, observation: ArrayLike) -> NDArray:
    """Observations ``[D]`` or ``[n, D]`` as rows ``[n, D]``: categories as uint8, numbers as floats of any size.

    Raises:
        AgentError: no array of numbers, another shape, or unknown categories.
    """
    wanted = f"({spec.obs_dim},) or (n, {spec.obs_dim})"
    try:
        array = np.asarray(observation)
    except (TypeError, ValueError, RuntimeError):
        # Ragged lists; tensors on a GPU or with gradients.
        array = np.array(None)
    if array.dtype.kind not in "fiu":
        raise AgentError(
            f"observation: this {type(observation).__name__} is no array of numbers; give one of shape {wanted}, "
            "such as reset()[0]"
        )
    if array.ndim not in (1, 2) or array.shape[-1] != spec.obs_dim:
        raise AgentError(f"observation: shape {array.shape} does not fit; it must be {wanted}")
    rows = np.atleast_2d(array)
    if spec.layout is not None:
        return _categories(spec.layout, rows)
    return rows if rows.dtype.kind == "f" else rows.astype(np.float32)


def _categories(layout: GridLayout, rows: NDArray) -> NDArray[np.uint8]:
    if rows.dtype.kind not in "iu":
        raise AgentError(
            f"observation: {rows.dtype} holds no categories; give the environment's integers"
        )
    sizes = np.array(layout.sizes())
    wrong = np.argwhere((rows < 0) | (rows >= sizes))
    if len(wrong):
        row, byte = wrong[0]
        kind = "mission token" if byte >= layout.num_bytes - layout.words else "category"
        raise AgentError(
            f"observation: {kind} {rows[row, byte]} at {byte} is unknown; it must be below {sizes[byte]}"
        )
    return rows.astype(np.uint8, copy=False)


def make_network(
    spec: EnvSpec,
    body: Body,
    *,
    extra: int,
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
    """The network for a suite's observations and ``extra`` further inputs.

    On MiniGrid the body stands behind an encoder of views, and ``memory="gru"`` adds recurrence.

    Args:
        num_tasks: T; 1 where every task has networks of its own.
        num_heads: T for one head a task, 1 for one that all tasks share.
        follows: whether it is an actor's, see ``Network``.

    Raises:
        AgentError: memory on a suite other than MiniGrid.
    """
    encoder: Encoder = Identity(spec.obs_dim + extra)
    if spec.layout is not None:
        encoder = GridEncoder(spec.obs_dim + extra, spec.layout, channels)
    elif memory != "none":
        raise AgentError(
            f"memory: {memory!r} is offered on MiniGrid only; use none for {spec.suite}"
        )
    size = Size(encoder.num_features, width, depth, activation, num_tasks)
    features = body.num_features(size)
    recurrent = None
    if memory != "none":
        recurrent = GRU(features, width)
        features = width
    heads = Heads(features, out_dim, num_heads)
    return Network(encoder, body, size, heads, recurrent, follows)


def task_ids(
    spec: EnvSpec, env: TaskVectorEnv | None, rows: int, task_id: NDArray | None
) -> NDArray[np.int64]:
    """Task of each of ``rows`` observations, where it is given or can be known. Raises AgentError otherwise."""
    if task_id is not None:
        given = np.asarray(task_id)
        if given.dtype.kind not in "iu" or given.shape not in ((), (1,), (rows,)):
            raise AgentError(
                f"task_id: {given.dtype} of shape {given.shape} is neither an integer nor one for each of "
                f"{rows} observations"
            )
        tasks = np.broadcast_to(given.astype(np.int64), (rows,)).copy()
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


def scale_action(spec: EnvSpec, action: NDArray) -> NDArray[np.float32]:
    """Actions in [-1, 1] (clipped to it) as actions within the bounds of the environment."""
    low = np.array(spec.action_low)
    high = np.array(spec.action_high)
    share = (np.clip(action, -1, 1) + 1) * 0.5
    scaled: NDArray[np.float32] = (low + share * (high - low)).astype(np.float32)
    return scaled


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


def check_networks_finite(networks: Networks, gradient_steps: int) -> None:
    """Raise DivergedError, naming the tensor, if any is not finite."""
    for network, tensors in networks.items():
        for name, tensor in tensors.items():
            if not network.endswith("_tasks") and not torch.isfinite(tensor).all():
                raise DivergedError(
                    f"{network}.{name} is not finite after {gradient_steps} gradient steps"
                )
