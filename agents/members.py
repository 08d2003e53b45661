"""One network per task: the axis of seeds holds the tasks, so T agents are one batched update.

``sac_update`` and ``ppo_update`` keep the members of their leading axis apart. With ``heads=separate`` that axis has
one member per task and the task axis has size 1; everything here only moves tasks from one axis to the other.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtrl.agents.state import map_tensors

Tree = TypeVar("Tree")
Networks = dict[str, dict[str, Tensor]]


def to_members(data: Tree) -> Tree:
    """A named tuple of ``[1, T, ...]`` tensors (None stays None) as ``[T, 1, ...]``."""
    return map_tensors(lambda tensor: tensor.transpose(0, 1), data)


def member(tree: Tree, task: int) -> Tree:
    """The state or data of one task's agent, as views: what an update changes in it changes in ``tree``."""
    return map_tensors(lambda tensor: tensor[task : task + 1], tree)


def per_task(metrics: dict[str, Tensor]) -> dict[str, Tensor]:
    """Metrics ``[n]`` or ``[n, 1]`` of n members as ``[1, n]``."""
    return map_tensors(lambda value: value.flatten().unsqueeze(0), metrics)


def group_rows(task_id: NDArray, num_tasks: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of any tasks, arranged by task.

    Returns:
        For each task the indices of its rows ``[T, m]``, padded with 0 to the largest number of rows, and where each
        row stands in the flattened ``[T * m]``, ``[n]``.
    """
    # Every task gets as many slots as the one with most rows; what the padding computes is never read.
    counts = np.bincount(task_id, minlength=num_tasks)
    order = np.argsort(task_id, kind="stable")
    slot = np.empty(len(task_id), np.int64)
    first = np.cumsum(counts) - counts
    slot[order] = np.arange(len(task_id)) - np.repeat(first, counts)
    place = task_id * counts.max() + slot
    index = np.zeros(num_tasks * counts.max(), np.int64)
    index[place] = np.arange(len(task_id))
    return index.reshape(num_tasks, -1), place


def with_task_code(obs: Tensor, wanted: bool, code: Tensor | None = None) -> Tensor:
    """Task-major observations ``[S, T, n, D]`` with T one-hot columns of their task behind them, if ``wanted``.

    Args:
        code: other columns ``[S, T, n, C]``.
    """
    if not wanted:
        return obs
    columns = task_code(obs) if code is None else code.to(obs.dtype)
    return torch.cat([obs, columns], -1)


def task_code(obs: Tensor) -> Tensor:
    """The one-hot code of the task of every row of ``[S, T, n, D]``, ``[S, T, n, T]`` of the same type."""
    seeds, tasks, rows, _ = obs.shape
    code = torch.eye(tasks, dtype=obs.dtype, device=obs.device)
    return code[None, :, None].expand(seeds, -1, rows, -1)
