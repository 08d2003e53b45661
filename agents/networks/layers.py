"""Hidden layers that bodies are made of: a product, LayerNorm where it is asked for, and a nonlinearity."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from mtrl.agents.errors import AgentError
from mtrl.agents.networks.chain import ReLUTrunk, TanhTrunk, plain_trunk
from mtrl.agents.networks.linear import (
    by_group,
    differs_by_task,
    experts_as_members,
    linear,
    scale_rows,
)
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
        task_names: of the T tasks; empty where every task has networks of its own.
        actions: how many of the inputs, the last ones but for a task's code, are the action that a critic values.
        depths: how many tasks each one builds on, one on top of the other; empty where that is not known.
    """

    inputs: int
    width: int
    depth: int
    activation: Activation
    num_tasks: int
    task_names: tuple[str, ...] = ()
    actions: int = 0
    depths: tuple[int, ...] = ()


def numbers_of(key: str, text: str) -> tuple[int, ...]:
    """The whole numbers of a setting that has one for each task, as in ``0/0/1``.

    Raises:
        AgentError: anything else.
    """
    parts = text.split("/") if text else []
    if not all(part.isdecimal() for part in parts):
        raise AgentError(f"{key}: {text!r} is no list of whole numbers, such as 0/0/1")
    return tuple(int(part) for part in parts)


def check_count(key: str, numbers: tuple[int, ...], num_tasks: int) -> None:
    """Raise AgentError unless there is one number for each task."""
    if len(numbers) != num_tasks:
        given = "/".join(map(str, numbers))
        raise AgentError(
            f"{key}: {given} has {len(numbers)} numbers; there must be one for each of {num_tasks} tasks"
        )


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
    params = [p[name] for name in hidden_names(size)]
    x = x.to(params[0].dtype)
    if size.activation == "layer_norm" or any(differs_by_task(param) for param in params):
        for layer in range(size.depth):
            x = hidden_layer(p, layer, x, size.activation)
        return x.float()
    # The fused chain computes the same, faster.
    if not torch.is_grad_enabled():
        return plain_trunk(size.activation, x, params)
    chain = ReLUTrunk if size.activation == "relu" else TanhTrunk
    out: Tensor = chain.apply(x, *params)
    return out


@cache
def hidden_names(size: Size) -> tuple[str, ...]:
    """The names of ``hidden_parameters``, which acting needs at every step."""
    return tuple(hidden_parameters(size))


def before_activation(
    p: Named, layer: int, x: Tensor, activation: Activation, change: Tensor | None = None
) -> Tensor:
    """What the nonlinearity of a hidden layer takes, ``[K, T, b, width]``: normalized with ``layer_norm``.

    Args:
        change: added to the product of weight and ``x``, ``[K, T, b, width]``.
    """
    weight = p[f"{layer}.weight"]
    bias = p[f"{layer}.bias"]
    if activation != "layer_norm":
        product = linear(x, weight, bias)
        return product if change is None else product + change
    gain = p[f"{layer}.gain"]
    product = linear(x, weight)
    if change is not None:
        product = product + change
    shape = product.shape[-1:]
    one_member = gain.shape[:2] == (1, 1)
    if one_member:
        # Only one member's gain and bias have the shape that the fused kernel takes.
        return layer_norm(product, shape, gain.view(shape), bias.view(shape))
    normalized = by_group(layer_norm(product, shape), gain)
    scaled = torch.addcmul(bias.unsqueeze(2), normalized, gain.unsqueeze(2))
    return scaled.view(product.shape)


def hidden_layer(
    p: Named, layer: int, x: Tensor, activation: Activation, change: Tensor | None = None
) -> Tensor:
    """The output ``[K, T, b, width]`` of a hidden layer; arguments as of ``before_activation``."""
    if change is None and activation != "layer_norm":
        # The product writes the nonlinearity's output at once.
        return linear(x, p[f"{layer}.weight"], p[f"{layer}.bias"], activation)
    return activate(before_activation(p, layer, x, activation, change), activation)


def normalized(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """LayerNorm of ``x`` ``[K, T, b, n]``, in float32, with learned ``gain`` and ``bias`` ``[K, G, n]``."""
    return scale_rows(layer_norm(x.float(), x.shape[-1:]), gain.float(), bias.float())


def activate(x: Tensor, activation: Activation) -> Tensor:
    """ReLU or tanh of ``x``."""
    # Not in place: ``x`` may be a view of a product, whose gradient autograd would copy as a whole.
    return x.tanh() if activation == "tanh" else x.relu()


def one_layer(size: Size, layer: int = 0) -> Size:
    """One of the hidden layers that ``size`` describes."""
    inputs = size.width if layer else size.inputs
    return replace(size, inputs=inputs, depth=1)


def each_layer(size: Size) -> list[Size]:
    """Every hidden layer that ``size`` describes, as a network of depth 1."""
    return [one_layer(size, layer) for layer in range(size.depth)]


def affine_parameters(
    name: str, outputs: int, inputs: int, exact: bool = False
) -> dict[str, Parameter]:
    """Weight and bias of a linear layer, ``NAME.weight`` and ``NAME.bias``."""
    return {
        f"{name}.weight": Parameter((outputs, inputs), he_uniform(inputs), exact=exact),
        f"{name}.bias": Parameter((outputs,), 0.0, exact=exact),
    }


def affine(p: Named, name: str, x: Tensor, activation: str = "none") -> Tensor:
    """The output ``[K, T, b, outputs]`` of a layer of ``affine_parameters``, in the dtype of its weight.

    Args:
        activation: of the output, without LayerNorm where it is ``layer_norm``.
    """
    nonlinearity = "relu" if activation == "layer_norm" else activation
    return linear(x, p[f"{name}.weight"], p[f"{name}.bias"], nonlinearity)


def named(part: str, parameters: dict[str, Parameter]) -> dict[str, Parameter]:
    """The parameters of a part of a body, as ``PART.NAME``."""
    return {f"{part}.{name}": parameter for name, parameter in parameters.items()}


def part_of(p: Named, part: str) -> Named:
    """What ``named`` put under the name of a part."""
    prefix = f"{part}."
    return {
        name.removeprefix(prefix): view for name, view in p.items() if name.startswith(prefix)
    }


def several(count: int, parameters: dict[str, Parameter]) -> dict[str, Parameter]:
    """The parameters of ``count`` experts, drawn one by one: with a first axis ``[count, ...]``."""
    return {name: replace(one, shape=(count, *one.shape)) for name, one in parameters.items()}


def as_members(p: Named) -> Named:
    """The parameters of experts as those of members, see ``experts_as_members``."""
    return {name: experts_as_members(view) for name, view in p.items()}


def owned(parameters: dict[str, Parameter]) -> dict[str, Parameter]:
    """The same parameters, each task with its own."""
    return {name: replace(parameter, kind="owned") for name, parameter in parameters.items()}
