"""What bodies show of themselves as images: which matrices there are, and how their entries become shades of gray."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

Matrices = dict[str, list[Tensor]]
"""By name, a matrix ``[K, rows, columns]``, or one for each of several layers."""

MEANINGS = {
    "alignment": "How alike the codes of two tasks' rows are in a layer: exp(-KL divergence).",
    "attention": "Weights of the encoders in each task.",
    "branch": "Which copy of the layer below each copy of a layer reads.",
    "choice": "Which copy of the last layer each task reads.",
    "gate": "Weights of experts or parts in each task, the mean over its newest observations.",
    "heads": "How much each head reads of each feature, as a share of the most that one does.",
    "layer": "The layer that each task reads.",
    "mask": "How much of each unit a task lets through, the mean over its newest observations.",
    "mixture": "The weights by which each task mixes what tasks share.",
    "route": "Weights of the modules in each task, the mean over its newest observations.",
    "similarity": "Cosines of the tasks' codes, vectors or changes of weights.",
    "stitch": "Weights by which a layer's columns are mixed.",
}
"""What an image of a name shows."""


@dataclass(frozen=True)
class Shown:
    """What a body says of a matrix that it shows.

    Attributes:
        rows, columns: what they stand for; ``tasks`` where there is one for each task.
        signed: whether entries may be negative; if not, they lie in [0, 1].
        by_layer: whether there is a matrix for each of several layers.
    """

    rows: str
    columns: str
    signed: bool = False
    by_layer: bool = False

    @property
    def is_of_single_tasks(self) -> bool:
        """Whether a row says something of its task alone, so that networks of one task each have one."""
        return self.rows == "tasks" and self.columns != "tasks"


SIMILARITY = Shown("tasks", "tasks", signed=True)


def similarity(vectors: Tensor) -> Tensor:
    """Cosines ``[K, T, T]`` of vectors ``[K, T, n]``; 0 for a vector of length 0."""
    unit = normalize(vectors, dim=-1)
    return unit @ unit.mT


def as_image(matrix: Tensor, signed: bool) -> NDArray[np.float32]:
    """``matrix`` ``[rows, columns]`` in [0, 1]; where it is signed, 0 becomes 1/2 and the largest size 0 or 1."""
    values = matrix.detach().float().cpu()
    if signed:
        most = values.abs().max().clamp_min(1e-12)
        values = (values / most + 1) / 2
    image: NDArray[np.float32] = values.clamp(0, 1).numpy()
    return image


def image_names(name: str, count: int, shown: Shown) -> list[str]:
    """The names of ``count`` images: ``NAME``, or ``NAME_0`` on where there is one for each layer."""
    return [f"{name}_{layer}" for layer in range(count)] if shown.by_layer else [name]
