"""What an off-policy agent does with its policy's outputs: bounded continuous actions, or discrete ones with a mask."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtrl.agents.base import EnvSpec
from mtrl.agents.common import scale_action
from mtrl.agents.distributions import categorical_sample, squashed_gaussian, squashed_mode


class Actions(ABC):
    """Actions of rows ``[n]`` of any tasks; ``output`` is the policy's, ``[n, O]``; ``tasks`` int64 ``[n]``.

    Random numbers are drawn on the CPU, so that exploration does not depend on the device.

    Attributes:
        num_outputs: O, outputs of the policy.
    """

    num_outputs: int

    @abstractmethod
    def random(self, tasks: Tensor, generator: torch.Generator) -> NDArray:
        """Uniform over each task's actions."""

    @abstractmethod
    def sample(self, output: Tensor, tasks: Tensor, generator: torch.Generator) -> NDArray:
        """Drawn from the policy."""

    @abstractmethod
    def mode(self, output: Tensor, tasks: Tensor) -> NDArray:
        """The deterministic action."""

    @abstractmethod
    def features(self, output: Tensor, tasks: Tensor) -> Tensor:
        """The action distribution in numbers that can be compared, ``[n, F]``."""

    @abstractmethod
    def to_env(self, action: NDArray) -> NDArray:
        """What the environment takes."""


class BoxActions(Actions):
    """Tanh-squashed Gaussians, float32 ``[n, A]`` in [-1, 1], scaled to the bounds of the environment."""

    def __init__(self, spec: EnvSpec) -> None:
        self._spec = spec
        self.num_outputs = 2 * spec.action_dim

    def random(self, tasks: Tensor, generator: torch.Generator) -> NDArray:
        return (torch.rand((len(tasks), self._spec.action_dim), generator=generator) * 2 - 1).numpy()

    def sample(self, output: Tensor, tasks: Tensor, generator: torch.Generator) -> NDArray:
        noise = torch.randn((len(tasks), self._spec.action_dim), generator=generator).to(output.device)
        return squashed_gaussian(output, noise)[0].cpu().numpy()

    def mode(self, output: Tensor, tasks: Tensor) -> NDArray:
        return squashed_mode(output).cpu().numpy()

    def features(self, output: Tensor, tasks: Tensor) -> Tensor:
        return squashed_mode(output)

    def to_env(self, action: NDArray) -> NDArray:
        return scale_action(self._spec, action)


class DiscreteActions(Actions):
    """Categorical over the actions that a task has, int64 ``[n]``."""

    def __init__(self, spec: EnvSpec, mask: Tensor) -> None:
        """``mask`` is bool ``[T, A]``."""
        self._mask = mask
        self.num_outputs = spec.action_dim

    def random(self, tasks: Tensor, generator: torch.Generator) -> NDArray:
        return self.sample(torch.zeros(len(tasks), self.num_outputs, device=self._mask.device), tasks, generator)

    def sample(self, output: Tensor, tasks: Tensor, generator: torch.Generator) -> NDArray:
        noise = torch.rand(output.shape, generator=generator).to(output.device)
        return categorical_sample(self._masked(output, tasks), noise).cpu().numpy()

    def mode(self, output: Tensor, tasks: Tensor) -> NDArray:
        return self._masked(output, tasks).argmax(-1).cpu().numpy()

    def features(self, output: Tensor, tasks: Tensor) -> Tensor:
        return self._masked(output, tasks).softmax(-1)

    def to_env(self, action: NDArray) -> NDArray:
        return action.astype(np.int64, copy=False)

    def _masked(self, output: Tensor, tasks: Tensor) -> Tensor:
        return output.masked_fill(~self._mask[tasks.to(self._mask.device)], -1e9)


def action_mask(spec: EnvSpec, device: torch.device) -> Tensor | None:
    """Bool ``[T, A]``, True where a task has the action; None for continuous actions."""
    if not spec.discrete:
        return None
    counts = torch.tensor(spec.num_actions, device=device)
    return torch.arange(spec.action_dim, device=device) < counts.unsqueeze(1)


def make_actions(spec: EnvSpec, device: torch.device) -> Actions:
    """The actions of an environment of ``spec``."""
    mask = action_mask(spec, device)
    return BoxActions(spec) if mask is None else DiscreteActions(spec, mask)
