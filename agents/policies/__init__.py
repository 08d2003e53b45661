"""Policies as objects: what an agent does with the outputs of its policy network, and what losses ask of them.

Letters: S seeds, T tasks, b rows of a task, A components of an action or number of actions, O outputs of the network.
Task-major outputs are ``[S, T, b, O]``; ``of_rows`` gives the policy for rows ``[n, O]`` of any tasks. With
``heads=separate`` the tasks stand on the axis of seeds, so masks are ``[1, T, 1, A]`` or ``[T, 1, 1, A]``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor

from mtrl.agents.agent import EnvSpec
from mtrl.agents.common import scale_action
from mtrl.agents.data.arrays import Array, as_type
from mtrl.agents.policies.distributions import (
    categorical,
    categorical_sample,
    clipped_mean,
    gaussian,
    gaussian_sample,
    squashed_gaussian,
    squashed_mode,
)

IMPOSSIBLE = -1e9  # a logit that adds 0 to an entropy; minus infinity would add NaN


class Policy(ABC):
    """A family of action distributions, bound to the actions of one suite.

    Attributes:
        num_outputs: O.
        noise_size: standard normal numbers that a sample of one row takes in an update; 0 where losses need none.
    """

    num_outputs: int
    noise_size: int = 0

    def of_rows(self, tasks: Tensor) -> Self:
        """The policy for rows of the tasks ``[n]``."""
        return self

    def of_task(self, task: int) -> Self:
        """The policy of one task's agent, where every task has an agent of its own."""
        return self

    def on(self, device: torch.device) -> Self:
        """The policy with what it holds on ``device``."""
        return self

    @abstractmethod
    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """The random numbers of ``sample``, on the CPU, so that exploration does not depend on the device.

        Args:
            shape: of the outputs, without the last axis.
        """

    @abstractmethod
    def sample(self, output: Tensor, noise: Tensor, log_std: Tensor | None = None) -> Tensor:
        """An action of each row, ``[..., A]``, or ``[...]`` for discrete actions."""

    @abstractmethod
    def mode(self, output: Tensor, log_std: Tensor | None = None) -> Tensor:
        """The deterministic action of each row."""

    @abstractmethod
    def features(self, output: Tensor) -> Tensor:
        """The action distribution in numbers that can be compared, ``[..., F]``."""

    @abstractmethod
    def to_env(self, action: Array) -> Array:
        """What the environment takes for an action, where its arrays live."""

    def random(self, rows: int, generator: torch.Generator) -> Tensor:
        """Actions drawn uniformly from what each row's task allows."""
        output = torch.zeros(rows, self.num_outputs)
        return self.sample(output, self.draw((rows,), generator))


class _BoxPolicy(Policy):
    """A policy over continuous actions, which the environment gets clipped to [-1, 1] and scaled to its bounds."""

    def __init__(self, spec: EnvSpec) -> None:
        self._spec = spec
        self._size = spec.action_dim

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.randn((*shape, self._size), generator=generator)

    def to_env(self, action: Array) -> Array:
        return scale_action(self._spec, action)


class Gaussian(_BoxPolicy):
    """Diagonal Gaussians; the network gives means, standard deviations stand apart (``log_std``).

    Args:
        deterministic_action: ``mode`` acts with the mean, which the bounds clip; ``mean`` with the mean of the clipped
            Gaussian.
    """

    def __init__(self, spec: EnvSpec, deterministic_action: str = "mode") -> None:
        super().__init__(spec)
        self.num_outputs = spec.action_dim
        self._of_clipped = deterministic_action == "mean"

    def sample(self, output: Tensor, noise: Tensor, log_std: Tensor | None = None) -> Tensor:
        assert log_std is not None
        return gaussian_sample(output, log_std, noise)

    def mode(self, output: Tensor, log_std: Tensor | None = None) -> Tensor:
        if not self._of_clipped:
            return output
        assert log_std is not None
        return clipped_mean(output, log_std)

    def log_prob(
        self, output: Tensor, action: Tensor, log_std: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Log density of ``action`` and entropy, each ``[S, T, b]``; ``log_std`` is ``[S, T, A]``."""
        assert log_std is not None
        return gaussian(output, log_std.unsqueeze(2), action)

    def features(self, output: Tensor) -> Tensor:
        return output.clamp(-1, 1)


class SquashedGaussian(_BoxPolicy):
    """Gaussians squashed by tanh; the network gives means and log standard deviations, ``O = 2 A``."""

    def __init__(self, spec: EnvSpec) -> None:
        super().__init__(spec)
        self.num_outputs = 2 * spec.action_dim
        self.noise_size = spec.action_dim

    def sample(self, output: Tensor, noise: Tensor, log_std: Tensor | None = None) -> Tensor:
        return squashed_gaussian(output, noise)[0]

    def mode(self, output: Tensor, log_std: Tensor | None = None) -> Tensor:
        return squashed_mode(output)

    def features(self, output: Tensor) -> Tensor:
        return squashed_mode(output)

    def random(self, rows: int, generator: torch.Generator) -> Tensor:
        # Uniform over the bounds; a sample of zero outputs would gather around 0.
        return torch.rand((rows, self._size), generator=generator) * 2 - 1

    def critic_input(self, obs: Tensor, action: Tensor | None) -> Tensor:
        """What the critics read: observations and the action."""
        assert action is not None
        return torch.cat([obs, action], -1)

    def taken(self, q: Tensor, action: Tensor) -> Tensor:
        """Values ``[S, 2, T, b]`` of ``action`` among the critics' outputs ``[S, 2, T, b, 1]``."""
        return q.squeeze(-1)

    def taken_atoms(self, outputs: Tensor, action: Tensor) -> Tensor:
        """Atoms ``[S, 2, T, b, N]`` of ``action`` among the critics' outputs ``[S, 2, T, b, 1, N]``."""
        return outputs.squeeze(-2)

    def soft_actions(
        self, output: Tensor, noise: Tensor
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """A sampled action, its weight 1, and its log density, the last two ``[S, T, b, 1]``."""
        action, log_prob = squashed_gaussian(output, noise)
        log_prob = log_prob.unsqueeze(-1)
        return action, torch.ones_like(log_prob), log_prob

    def soft_value(
        self,
        output: Tensor,
        noise: Tensor,
        critics: Callable[[Tensor | None], Tensor],
        alpha: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """``min_k Q_k(s, a) - alpha log pi(a|s)`` of one sampled action, and ``log pi(a|s)``, each ``[S, T, b]``.

        Args:
            noise: standard normal ``[S, T, b, A]``.
            critics: both critics' outputs ``[S, 2, T, b, 1]`` for an action.
            alpha: temperatures ``[S, T]``.
        """
        action, log_prob = squashed_gaussian(output, noise)
        q = self.taken(critics(action), action).amin(1)
        return q - alpha.unsqueeze(-1) * log_prob, log_prob


class Categorical(Policy):
    """Discrete actions; those that a task lacks are impossible.

    Args:
        mask: bool, which actions a task has; it broadcasts to the outputs.
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        self.num_outputs = mask.shape[-1]

    def of_rows(self, tasks: Tensor) -> Self:
        return type(self)(self.mask.flatten(0, -2)[tasks.to(self.mask.device)])

    def of_task(self, task: int) -> Self:
        return type(self)(self.mask[task : task + 1])

    def on(self, device: torch.device) -> Self:
        return self if self.mask.device == device else type(self)(self.mask.to(device))

    def logits(self, output: Tensor) -> Tensor:
        """``output`` with the logits of impossible actions out of reach."""
        return output.masked_fill(~self.mask, IMPOSSIBLE)

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.rand((*shape, self.num_outputs), generator=generator)

    def sample(self, output: Tensor, noise: Tensor, log_std: Tensor | None = None) -> Tensor:
        return categorical_sample(self.logits(output), noise)

    def mode(self, output: Tensor, log_std: Tensor | None = None) -> Tensor:
        return self.logits(output).argmax(-1)

    def log_prob(
        self, output: Tensor, action: Tensor, log_std: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Log probability of ``action`` ``[S, T, b]`` and entropy, each ``[S, T, b]``."""
        return categorical(self.logits(output), action)

    def features(self, output: Tensor) -> Tensor:
        return self.logits(output).softmax(-1)

    def random(self, rows: int, generator: torch.Generator) -> Tensor:
        drawn = self.draw((rows,), generator).to(self.mask.device)
        return self.sample(torch.zeros_like(drawn), drawn)

    def to_env(self, action: Array) -> Array:
        return as_type(action, "int64")

    def critic_input(self, obs: Tensor, action: Tensor | None) -> Tensor:
        """What the critics read: observations alone, since they value every action."""
        return obs

    def taken(self, q: Tensor, action: Tensor) -> Tensor:
        """Values ``[S, 2, T, b]`` of the actions ``[S, T, b]`` or ``[S, T, b, 1]`` among ``[S, 2, T, b, A]``."""
        seeds, twins, tasks, rows, _ = q.shape
        index = action.long().view(seeds, 1, tasks, rows, 1)
        return q.gather(-1, index.expand(-1, twins, -1, -1, -1)).squeeze(-1)

    def taken_atoms(self, outputs: Tensor, action: Tensor) -> Tensor:
        """Atoms ``[S, 2, T, b, N]`` of the actions ``[S, T, b]`` or ``[S, T, b, 1]`` among ``[S, 2, T, b, A, N]``."""
        seeds, _, tasks, rows = outputs.shape[:4]
        index = action.long().view(seeds, 1, tasks, rows, 1, 1)
        return outputs.take_along_dim(index, -2).squeeze(-2)

    def soft_actions(
        self, output: Tensor, noise: Tensor
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """No action, since critics value all, and every action's probability and its logarithm, ``[S, T, b, A]``."""
        log_prob = torch.log_softmax(self.logits(output), -1)
        return None, log_prob.exp(), log_prob

    def soft_value(
        self,
        output: Tensor,
        noise: Tensor,
        critics: Callable[[Tensor | None], Tensor],
        alpha: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """``sum_a pi(a|s) (min_k Q_k(s, a) - alpha log pi(a|s))`` and minus the entropy, each ``[S, T, b]``.

        An exact expectation over actions instead of a sample (Christodoulou 2019, arXiv 1910.07207, equation 10).
        """
        log_prob = torch.log_softmax(self.logits(output), -1)
        prob = log_prob.exp()
        with torch.no_grad():
            # The actor's loss moves the policy only; its critics do not read the action.
            q = critics(None).amin(1)
        value = (prob * (q - alpha[..., None, None] * log_prob)).sum(-1)
        return value, (prob * log_prob).sum(-1)


ActorCriticPolicy = SquashedGaussian | Categorical
"""Policies whose losses look at critics (SAC)."""
RatioPolicy = Gaussian | Categorical
"""Policies whose losses look at densities (PPO)."""


def action_mask(spec: EnvSpec, device: torch.device, separate: bool) -> Tensor:
    """Which actions each task has, bool ``[1, T, 1, A]``, or ``[T, 1, 1, A]`` where tasks have agents of their own."""
    counts = torch.tensor(spec.num_actions).to(device)
    mask = torch.arange(spec.action_dim, device=device) < counts.unsqueeze(1)
    lead = (-1, 1, 1) if separate else (1, -1, 1)
    return mask.view(*lead, spec.action_dim)
