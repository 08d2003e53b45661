"""What the critics' outputs are: a value, or a distribution over fixed atoms whose mean is the value."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from mtrl.agents.errors import AgentError
from mtrl.agents.optim.weighted import Weight, weighted_mean
from mtrl.agents.settings import Number, Whole, settings

if TYPE_CHECKING:
    from mtrl.agents.policies import ActorCriticPolicy

Critics = Callable[[Tensor | None], Tensor]
"""Both critics' outputs ``[S, 2, T, b, A N]`` for an action; ``A`` is 1 with continuous actions."""
Twins = Literal["min", "mean", "first"]


def join(values: Tensor, twins: Twins) -> Tensor:
    """What counts of both critics' ``[S, 2, ...]``: ``[S, 1, ...]``, or both for ``min``, which a policy takes."""
    if twins == "mean":
        return values.mean(1, keepdim=True)
    return values[:, :1] if twins == "first" else values


class Value(ABC):
    """How outputs of critics stand for values, and what they learn from.

    Attributes:
        num_outputs: N, of each action.
    """

    num_outputs: int

    @abstractmethod
    def mean(self, outputs: Tensor) -> Tensor:
        """Values ``[..., A]`` of outputs ``[..., A N]``."""

    @abstractmethod
    def losses(
        self,
        policy: ActorCriticPolicy,
        outputs: Tensor,
        action: Tensor,
        target: Tensor,
        weight: Weight = None,
    ) -> tuple[Tensor, Tensor]:
        """The critics' losses ``[S, T]`` and values ``[S, 2, T, b]`` of ``action``.

        Args:
            outputs: ``[S, 2, T, b, A N]``.
            weight: of each sample, ``[S, T, b]``.
        """

    def error(self, values: Tensor, target: Tensor) -> Tensor:
        """Temporal differences ``[S, T, b]`` of values ``[S, 2, T, b]``: the larger of both critics'."""
        return (values - self.expected(target).unsqueeze(1)).abs().amax(1)

    def expected(self, target: Tensor) -> Tensor:
        """Values ``[S, T, b]`` that targets stand for."""
        return target

    @abstractmethod
    def target(
        self,
        policy: ActorCriticPolicy,
        output: Tensor,
        noise: Tensor,
        critics: Critics,
        alpha: Tensor,
        reward: Tensor,
        discount: Tensor,
        twins: Twins,
    ) -> Tensor:
        """What the critics are to learn, ``[S, T, b]`` or a distribution ``[S, T, b, N]``.

        Args:
            output: the actor's at the next observation.
            noise, alpha: as of ``soft_value``.
            critics: the target critics at the next observation.
            reward, discount: ``[S, T, b]``; the discount is 0 where an episode terminated.
            twins: how the two critics count.
        """


@settings
class Scalar(Value):
    """One number, learned by squared error."""

    num_outputs = 1

    def mean(self, outputs: Tensor) -> Tensor:
        return outputs

    def losses(
        self,
        policy: ActorCriticPolicy,
        outputs: Tensor,
        action: Tensor,
        target: Tensor,
        weight: Weight = None,
    ) -> tuple[Tensor, Tensor]:
        q = policy.taken(outputs, action)
        return critic_loss(q, target, weight), q

    def target(
        self,
        policy: ActorCriticPolicy,
        output: Tensor,
        noise: Tensor,
        critics: Critics,
        alpha: Tensor,
        reward: Tensor,
        discount: Tensor,
        twins: Twins,
    ) -> Tensor:
        value, _ = policy.soft_value(
            output, noise, lambda action: join(critics(action), twins), alpha
        )
        return reward + discount * value


@settings
class CategoricalValue(Value):
    """Probabilities of atoms, learned by cross-entropy (Bellemare et al. 2017; for SAC, Nauman et al. 2025).

    Values beyond the outermost atoms cannot be told apart, so rewards need a scale that fits (``reward_scale``).
    """

    atoms: Whole = 101
    """Atoms, equally spaced from `low` to `high`; at least 2."""
    low: Number = -10.0
    """Least value."""
    high: Number = 10.0
    """Largest value."""
    targets: Literal["projected", "two-hot"] = "projected"
    """Projected takes the distribution of the target critics, moved by reward, discount and entropy; two-hot only its
    mean, split between the two nearest atoms."""

    def __post_init__(self) -> None:
        if self.atoms < 2:
            raise AgentError(f"atoms: {self.atoms} is out of range; it must be at least 2")
        if self.low >= self.high:
            raise AgentError(f"low: {self.low} is not below high, which is {self.high}")

    @property
    def num_outputs(self) -> int:  # type: ignore[override]
        return self.atoms

    def support(self, like: Tensor) -> Tensor:
        """The atoms' values ``[N]``."""
        return torch.linspace(self.low, self.high, self.atoms, device=like.device)

    def mean(self, outputs: Tensor) -> Tensor:
        return self._probs(outputs) @ self.support(outputs)

    def expected(self, target: Tensor) -> Tensor:
        return target @ self.support(target)

    def losses(
        self,
        policy: ActorCriticPolicy,
        outputs: Tensor,
        action: Tensor,
        target: Tensor,
        weight: Weight = None,
    ) -> tuple[Tensor, Tensor]:
        logits = policy.taken_atoms(outputs.unflatten(-1, (-1, self.atoms)), action)
        log_probs = logits.log_softmax(-1)
        entropies = -(target.unsqueeze(1) * log_probs).sum(-1)
        losses = _over_samples(entropies, weight)
        return losses, log_probs.detach().exp() @ self.support(outputs)

    def target(
        self,
        policy: ActorCriticPolicy,
        output: Tensor,
        noise: Tensor,
        critics: Critics,
        alpha: Tensor,
        reward: Tensor,
        discount: Tensor,
        twins: Twins,
    ) -> Tensor:
        if self.targets == "two-hot":
            value, _ = policy.soft_value(
                output, noise, lambda action: join(self.mean(critics(action)), twins), alpha
            )
            mean = (reward + discount * value).unsqueeze(-1)
            return self.project(mean, torch.ones_like(mean))
        action, chance, log_prob = policy.soft_actions(output, noise)
        probs = self._joined(self._probs(critics(action)), twins)
        entropy = alpha[..., None, None] * log_prob
        future = self.support(output) - entropy.unsqueeze(-1)
        values = reward[..., None, None] + discount[..., None, None] * future
        weights = chance.unsqueeze(-1) * probs
        return self.project(values.flatten(-2), weights.flatten(-2))

    def project(self, values: Tensor, weights: Tensor) -> Tensor:
        """The distribution ``[..., N]`` over atoms of ``weights`` at ``values``, both ``[..., n]``.

        Each value's weight is split between the two atoms around it, so within the atoms' range the mean is kept.
        """
        spacing = (self.high - self.low) / (self.atoms - 1)
        place = ((values - self.low) / spacing).clamp(0, self.atoms - 1)
        # A value at the highest atom still has an atom above the lower one.
        below = place.floor().clamp_max(self.atoms - 2)
        upper = weights * (place - below)
        index = below.long()
        out = torch.zeros(*values.shape[:-1], self.atoms, device=values.device)
        out.scatter_add_(-1, index, weights - upper)
        return out.scatter_add_(-1, index + 1, upper)

    def _probs(self, outputs: Tensor) -> Tensor:
        """Probabilities ``[..., A, N]`` of outputs ``[..., A N]``."""
        return outputs.unflatten(-1, (-1, self.atoms)).softmax(-1)

    def _joined(self, probs: Tensor, twins: Twins) -> Tensor:
        """One distribution ``[S, T, b, A, N]`` of both critics' ``[S, 2, T, b, A, N]``."""
        if twins != "min":
            return join(probs, twins).squeeze(1)
        # The whole distribution of the critic with the smaller mean: a minimum per atom is none.
        lower = (probs @ self.support(probs)).argmin(1, keepdim=True).unsqueeze(-1)
        return probs.take_along_dim(lower, 1).squeeze(1)


def critic_loss(q: Tensor, target: Tensor, weight: Weight = None) -> Tensor:
    """Squared error of both critics ``[S, 2, T, b]`` against ``[S, T, b]``: one loss per task, ``[S, T]``.

    Args:
        weight: of each sample, ``[S, T, b]``.
    """
    return 0.5 * _over_samples((q - target.unsqueeze(1)).square(), weight)


def _over_samples(errors: Tensor, weight: Weight) -> Tensor:
    """One loss per task ``[S, T]`` of the errors of both critics ``[S, 2, T, b]``."""
    of_both = None if weight is None else weight.unsqueeze(1)
    return weighted_mean(errors, of_both).sum(1)
