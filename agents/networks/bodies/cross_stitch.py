"""Cross-stitch networks (Misra et al. 2016): columns of layers whose outputs are mixed after every layer.

In vision every task sees the same image and has a column of its own. Here a row belongs to one task and runs through
all columns, so columns and the mixing between layers are shared by all tasks, whose gradients reach each of them. After
the last layer a task mixes the columns with weights of its own. The number of columns need not be that of tasks: a
column for each costs T times the MLP. Public code that starts all weights at 1 multiplies outputs by the number of
columns at every layer; here weights of a column start at .9 for itself and sum to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from mtrl.agents.networks.bodies.body import Body, Look, Step
from mtrl.agents.networks.layers import Named, Size, hidden_layer
from mtrl.agents.networks.mixture import expert_parameters, experts_of, recombine
from mtrl.agents.networks.parameters import Parameter
from mtrl.agents.networks.shown import Matrices, Shown
from mtrl.agents.settings import Count, Share, settings


@settings
class CrossStitch(Body):
    """``h_c ← Σ_s α_cs h_s`` of all columns after each layer; ``Σ_s α_ts h_s`` with a task's weights after the last."""

    columns: Count = 4
    """Columns, each an MLP of the agent's width and depth."""
    diagonal: Share = 0.9
    """Weight of a column for itself at the start, and of the column that a task begins with; others share the rest."""

    def parameters(self, size: Size) -> dict[str, Parameter]:
        parameters = expert_parameters(size, self.columns)
        square = (self.columns, self.columns)
        for layer in range(size.depth - 1):
            # What is learned is the difference to the weights at the start.
            parameters[f"{layer}.stitch"] = Parameter(square, 0.0, exact=True)
        start = partial(_draw_columns, self._start)
        parameters["stitch"] = Parameter(square[:1], start, "owned", exact=True)
        return parameters

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        size = step.size
        columns = experts_of(p, size)
        start = self._start(p["stitch"].device)
        hidden = x
        for layer in range(size.depth):
            outputs = hidden_layer(columns, layer, hidden, size.activation)
            outputs = outputs.unflatten(0, (-1, self.columns))
            if layer < size.depth - 1:
                hidden = recombine(outputs, start + p[f"{layer}.stitch"]).flatten(0, 1)
        return recombine(outputs.float(), p["stitch"].unsqueeze(2)).squeeze(1)

    @property
    def shown(self) -> Mapping[str, Shown]:
        return {
            "stitch": Shown(
                rows="columns",
                columns="columns",
                signed=True,
                by_layer=True,
            ),
            "mixture": Shown(
                rows="tasks",
                columns="columns",
                signed=True,
            ),
        }

    def shows(self, look: Look) -> Matrices:
        p = look.p
        start = self._start(p["stitch"].device)
        layers = range(look.step.size.depth - 1)
        return {
            "stitch": [start + p[f"{layer}.stitch"][:, 0] for layer in layers],
            "mixture": [p["stitch"]],
        }

    def _start(self, device: torch.device) -> Tensor:
        """Weights ``[C, C]`` at the start, row c for column c."""
        count = self.columns
        # A single column has no other to share with.
        if count == 1:
            return torch.ones(1, 1, device=device)
        others = (1 - self.diagonal) / (count - 1)
        return torch.full((count, count), others, device=device).fill_diagonal_(self.diagonal)


def _draw_columns(
    start: Callable[[torch.device], Tensor], size: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """Rows ``[K, T, C]`` of ``start``: tasks begin with columns in a random order, each equally often."""
    members, tasks, columns = size
    rows = start(generator.device)
    drawn = []
    for _ in range(members):
        order = torch.randperm(tasks, generator=generator, device=generator.device)
        # Tasks spread evenly over the columns, in an order of each member.
        drawn.append(rows[order % columns])
    return torch.stack(drawn)
