"""Hidden layers that bodies are made of: a product, LayerNorm where it is asked for, and a nonlinearity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from mtrl.agents.networks.chain import ReLUTrunk, TanhTrunk, plain_trunk
from mtrl.agents.networks.linear import by_group, differs_by_task, linear
from mtrl.agents.networks.parameters import Parameter, he_uniform

Activation = Literal["relu", "tanh", "layer_norm"]
Named = dict[str, Tensor]


@dataclass(frozen=True)
class Size:
    """What an agent's settings and a suite say of a body.

    Attributes:
        inputs: features that the encoder gives for a row.
        width, depth: of the hidden layers.
        activation: of the hidden layers; ``layer_norm`` is ReLU after LayerNorm with learned gain and bias.
        num_tasks: T; 1 where every task has networks of its own.
    """

    inputs: int
    width: int
    depth: int
    activation: Activation
    num_tasks: int


def hidden_parameters(size: Size) -> dict[str, Parameter]:
    """Weight and bias of each hidden layer, ``N.weight`` and ``N.bias``, and its gain with ``layer_norm``."""
    parameters = {}
    fan_in = size.inputs
    for layer in range(size.depth):
        parameters[f"{layer}.weight"] = Parameter((size.width, fan_in), he_uniform(fan_in))
        if size.activation == "layer_norm":
            parameters[f"{layer}.gain"] = Parameter((size.width,), 1.0)
        parameters[f"{layer}.bias"] = Parameter((size.width,), 0.0)
        fan_in = size.width
    return parameters


def hidden_layers(p: Named, x: Tensor, size: Size) -> Tensor:
    """All hidden layers' output ``[K, T, b, width]`` float32 for ``[S, T, b, inputs]``."""
    params = [p[name] for name in _names(size)]
    x = x.to(params[0].dtype)
    if size.activation == "layer_norm" or any(differs_by_task(param) for param in params):
        for layer in range(size.depth):
            x = activate(before_activation(p, layer, x, size.activation), size.activation)
        return x.float()
    # The fused chain computes the same, faster.
    if not torch.is_grad_enabled():
        return plain_trunk(size.activation, x, params)
    chain = ReLUTrunk if size.activation == "relu" else TanhTrunk
    out: Tensor = chain.apply(x, *params)
    return out


@cache
def _names(size: Size) -> tuple[str, ...]:
    """The names of ``hidden_parameters``, which acting needs at every step."""
    return tuple(hidden_parameters(size))


def before_activation(p: Named, layer: int, x: Tensor, activation: Activation) -> Tensor:
    """What the nonlinearity of a hidden layer takes, ``[K, T, b, width]``: normalized with ``layer_norm``."""
    weight = p[f"{layer}.weight"]
    bias = p[f"{layer}.bias"]
    if activation != "layer_norm":
        return linear(x, weight, bias)
    gain = p[f"{layer}.gain"]
    product = linear(x, weight)
    shape = product.shape[-1:]
    one_member = gain.shape[:2] == (1, 1)
    if one_member:
        # Only one member's gain and bias have the shape that the fused kernel takes.
        return layer_norm(product, shape, gain.view(shape), bias.view(shape))
    normalized = by_group(layer_norm(product, shape), gain)
    scaled = torch.addcmul(bias.unsqueeze(2), normalized, gain.unsqueeze(2))
    return scaled.view(product.shape)


def activate(x: Tensor, activation: Activation) -> Tensor:
    """ReLU or tanh of ``x``."""
    # Not in place: ``x`` may be a view of a product, whose gradient autograd would copy as a whole.
    return x.tanh() if activation == "tanh" else x.relu()
