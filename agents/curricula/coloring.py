"""Graph coloring by Welsh and Powell (1967)."""

from __future__ import annotations

import torch
from torch import Tensor


def welsh_powell(edges: Tensor) -> Tensor:
    """Colors ``[T]`` int64 such that no edge of the symmetric bool ``[T, T]`` joins two of the same color.

    Nodes are taken by falling degree (lower index first where equal); each color is given to the first uncolored node
    and to every later one that has no neighbor of that color. At most ``max degree + 1`` colors.
    """
    # A stable sort, so that equal degrees keep the order of the tasks.
    order = torch.argsort(edges.sum(1), descending=True, stable=True).tolist()
    neighbors = edges.tolist()
    colors = [-1] * len(order)
    color = 0
    while -1 in colors:
        members: list[int] = []
        for node in order:
            if colors[node] == -1 and not any(neighbors[node][other] for other in members):
                colors[node] = color
                members.append(node)
        color += 1
    return torch.tensor(colors)
