"""Supervision at different depths (Søgaard and Goldberg 2016, Sanh et al. 2019): simpler tasks have lower heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from mtrl.agents.errors import AgentError
from mtrl.agents.networks.bodies.body import Body, Look, Step
from mtrl.agents.networks.layers import (
    Named,
    Size,
    check_count,
    hidden_layer,
    hidden_parameters,
    numbers_of,
)
from mtrl.agents.networks.linear import of_members
from mtrl.agents.networks.parameters import Parameter, table
from mtrl.agents.networks.shown import Matrices, Shown
from mtrl.agents.settings import settings


@settings
class Hierarchical(Body):
    """Hidden layers ``h_l = act(W_l [h_{l-1}, x] + b_l)``; a task's features are ``h_l`` of the layer that is its own.

    A task that builds on d others of the suite, one on top of the other, has layer ``min(1 + d, L)`` of L. Layers above
    it get no gradient from the task. Where nothing is known of the tasks, each has the last layer. Layers of one width
    let all heads have one shape. Auxiliary tasks, which the papers put at the lowest layers, are left out.
    """

    shortcuts: bool = True
    """Whether layers after the first also read what the first one reads."""
    layers: str = ""
    """The layer of each task, counted from 1, as in 1/1/2; empty takes the layers from the graph of skills."""

    def __post_init__(self) -> None:
        if 0 in numbers_of("layers", self.layers):
            raise AgentError(f"layers: {self.layers} names layer 0; the first one is 1")

    def parameters(self, size: Size) -> dict[str, Parameter]:
        parameters = {}
        for layer in range(size.depth):
            one = hidden_parameters(replace(size, inputs=self._inputs(size, layer), depth=1))
            for name, parameter in one.items():
                parameters[f"{layer}.{name.removeprefix('0.')}"] = parameter
        chosen = self._layers(size)
        if chosen:
            rows = [[float(layer)] for layer in chosen]
            parameters["layer"] = Parameter((1,), table(rows), "fixed", exact=True)
        return parameters

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        size = step.size
        dtype = p["0.weight"].dtype
        inputs = of_members(x, len(p["0.weight"])).to(dtype)
        hidden = inputs
        read = None
        for layer in range(size.depth):
            below = hidden
            if layer and self.shortcuts:
                below = torch.cat([hidden, inputs], -1)
            hidden = hidden_layer(p, layer, below, size.activation)
            if "layer" in p:
                is_own = (p["layer"].round() == layer + 1).unsqueeze(2)
                # A product with 0 or 1 keeps the shapes fixed, whatever layer a task has.
                part = hidden.float() * is_own
                read = part if read is None else read + part
        return hidden.float() if read is None else read

    @property
    def shown(self) -> Mapping[str, Shown]:
        return {
            "layer": Shown(
                rows="tasks",
                columns="layers",
            )
        }

    def shows(self, look: Look) -> Matrices:
        depth = look.step.size.depth
        layer = look.p.get("layer")
        if layer is None:
            layer = look.heads.new_full((len(look.heads), look.x.shape[1], 1), depth)
        return {"layer": [one_hot(layer[..., 0].round().long() - 1, depth).float()]}

    def _inputs(self, size: Size, layer: int) -> int:
        """Inputs of a hidden layer."""
        if not layer:
            return size.inputs
        return size.width + size.inputs * self.shortcuts

    def _layers(self, size: Size) -> tuple[int, ...]:
        """The layer of each task, counted from 1; empty where each has the last."""
        if not self.layers or size.num_tasks == 1:
            return tuple(min(1 + depth, size.depth) for depth in size.depths)
        numbers = numbers_of("layers", self.layers)
        check_count("layers", numbers, size.num_tasks)
        if max(numbers) > size.depth:
            raise AgentError(
                f"layers: {max(numbers)} is no layer of a network of depth {size.depth}"
            )
        return numbers
