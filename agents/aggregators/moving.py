"""The base of methods that look at every task's gradient once more, at parameters moved for that task alone."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtrl.agents.aggregators.around import Around


@dataclass(frozen=True)
class Moving(Around):
    """Takes the gradients twice: at θ, then row i at θ + ε_i with ``ε_i = scale_i g_i``.

    Attributes:
        moves_owned: whether what tasks own moves too, and learns from its gradient there.
        looks: name of what ``compare`` gives, in the log.
    """

    moves_owned: ClassVar[bool] = False
    looks: ClassVar[str] = ""

    @abstractmethod
    def scales(self, norms: Tensor, factors: Tensor | None, learning_rate: float) -> Tensor:
        """Length and sign of each task's step in multiples of its gradient ``[..., m]`` float64; 0 for a zero one.

        Args:
            norms: of the gradients, float64 ``[..., m]``, over all that moves.
            factors: what takes them to the gradients of the plain losses; None where they are.
            learning_rate: of the optimizer.
        """

    @abstractmethod
    def compare(self, there: Tensor, here: Tensor) -> Tensor:
        """What to log of the losses ``[..., m]`` at both places."""

    def parts(self, like: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Weights of samples in the first gradients and in the second, shaped like ``like`` ``[..., b]``; None where
        all count the same."""
        return None, None

    def perturbations(self, jacobian: Tensor, learning_rate: float = 1.0) -> Tensor:
        """``ε_i``, ``[..., m, P]``."""
        norms = torch.linalg.vector_norm(jacobian, dim=-1, dtype=torch.float64)
        scale = self.scales(norms, None, learning_rate)
        return jacobian * scale.unsqueeze(-1).to(jacobian.dtype)
