"""What mixtures of experts are made of: stacked experts, gates that weigh their outputs at each row, and columns.

Experts stand on an axis ``E`` after that of members: parameters ``[K, G, E, ...]``, outputs ``[K, E, T, b, F]``. All of
them read every row, whatever the gates say: shapes stay the same, and a task's gradient reaches what its gates let
through.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtrl.agents.networks.layers import (
    Named,
    Size,
    hidden_layers,
    hidden_names,
    hidden_parameters,
)
from mtrl.agents.networks.linear import experts_as_members
from mtrl.agents.networks.parameters import Kind, Parameter


def expert_parameters(
    size: Size, experts: int, prefix: str = "", kind: Kind = "shared"
) -> dict[str, Parameter]:
    """Hidden layers of ``experts`` MLPs, under the names of ``hidden_parameters`` after ``prefix``."""
    parameters = {}
    for name, one in hidden_parameters(size).items():
        parameters[prefix + name] = Parameter((experts, *one.shape), one.init, kind)
    return parameters


def experts_of(p: Named, size: Size, prefix: str = "") -> Named:
    """The parameters of ``expert_parameters`` with experts as members, ``[K E, G, ...]``, without ``prefix``."""
    names = hidden_names(size)
    return {name: experts_as_members(p[prefix + name]) for name in names}


def expert_outputs(p: Named, x: Tensor, size: Size, prefix: str = "") -> Tensor:
    """Outputs ``[K, E, T, b, width]`` float32 of all experts at ``x`` ``[S or K, T, b, inputs]``.

    Where each expert has an input of its own, ``x`` is ``[K E, T, b, inputs]``.
    """
    members = len(p[f"{prefix}0.weight"])
    outputs = hidden_layers(experts_of(p, size, prefix), x, size)
    return outputs.unflatten(0, (members, -1))


def mix(outputs: Tensor, weights: Tensor) -> Tensor:
    """``Σ_e weights_e outputs_e``, ``[K, T, b, F]``, with weights ``[K, T, b or 1, E]``."""
    mixed = outputs[:, 0] * weights[..., :1]
    for expert in range(1, outputs.shape[1]):
        mixed = torch.addcmul(mixed, outputs[:, expert], weights[..., expert : expert + 1])
    return mixed


def softmax_of_largest(scores: Tensor, k: int) -> Tensor:
    """``softmax`` over the ``k`` largest of ``scores`` ``[..., E]``; 0 elsewhere."""
    top = scores.topk(k, -1)
    return torch.zeros_like(scores).scatter(-1, top.indices, top.values.softmax(-1))


def recombine(columns: Tensor, weights: Tensor) -> Tensor:
    """``Σ_s weights_cs columns_s`` of each column ``c``, ``[K, C, T, b, F]``.

    Args:
        columns: ``[K, E, T, b, F]``.
        weights: ``[K, G, C, E]``, with ``G`` groups of rows as of any parameter.
    """
    members, count, tasks, batch, width = columns.shape
    groups = weights.shape[1]
    rows = columns.reshape(members, count, groups, -1).transpose(1, 2)
    mixed = (weights.to(rows.dtype) @ rows).transpose(1, 2)
    return mixed.reshape(members, -1, tasks, batch, width)
