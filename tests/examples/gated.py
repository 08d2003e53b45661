"""A whole network of one's own in one file: hidden layers that all tasks share, and a gate for each task."""

from torch import Tensor

from mtrl.agents.networks.bodies.body import Body, Step
from mtrl.agents.networks.layers import Named, Size, hidden_layers, hidden_parameters
from mtrl.agents.networks.linear import scale_rows
from mtrl.agents.networks.parameters import Parameter
from mtrl.agents.settings import Positive, settings


@settings
class Gated(Body):
    """Features ``sharpness · σ(g_t) ⊙ h``: every task learns which of the shared features it reads."""

    sharpness: Positive = 2.0
    """Largest factor of a feature; at 2 all gates start at 1."""

    def parameters(self, size: Size) -> dict[str, Parameter]:
        gate = Parameter((size.width,), init=0.0, kind="owned", exact=True)
        return hidden_parameters(size) | {"gate": gate}

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        shared = hidden_layers(p, x, step.size)
        return scale_rows(shared, self.sharpness * p["gate"].sigmoid())
