"""The plain MLP: hidden layers that all tasks share."""

from __future__ import annotations

from torch import Tensor

from mtrl.agents.networks.bodies.body import Body, Step
from mtrl.agents.networks.layers import Named, Size, hidden_layers, hidden_parameters
from mtrl.agents.networks.parameters import Parameter
from mtrl.agents.settings import settings


@settings
class MLP(Body):
    """``depth`` hidden layers of ``width`` units."""

    def parameters(self, size: Size) -> dict[str, Parameter]:
        return hidden_parameters(size)

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        return hidden_layers(p, x, step.size)
