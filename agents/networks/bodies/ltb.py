"""Learning to branch (Guo et al. 2020): a tree of layers whose branches are found by Gumbel-softmax.

Every hidden layer has several copies. A copy reads one copy of the layer below, and a task's head one of the last
layer. A row runs through all copies, so a copy's choice is shared by all tasks, while that of a head is the task's.

The choices are drawn anew for each of ``PERIODS`` parts of the search and not for every pass: in acting, in losses and
in targets a policy has to be the same one. The draws stand among the frozen parameters. The authors prune copies that
nobody reads after the search; here they stay, get no gradient, and cost time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from mtrl.agents.errors import AgentError
from mtrl.agents.networks.bodies.body import Body, Look, Step
from mtrl.agents.networks.layers import Named, Size, hidden_layer
from mtrl.agents.networks.mixture import expert_parameters, experts_of, recombine
from mtrl.agents.networks.parameters import Parameter
from mtrl.agents.networks.shown import Matrices, Shown
from mtrl.agents.settings import Count, Positive, Share, settings

PERIODS = 32
LOGIT_RATE = 10.0  # a search is short: at the weights' step size the choices would hardly leave their start


@settings
class LTB(Body):
    """Copies ``h_c = act(W_c Σ_s α_cs h_s + b_c)`` of each hidden layer, and features ``Σ_s α_ts h_s`` of the last.

    In the search ``α`` is a one-hot draw of ``softmax((a + Gumbel noise) / τ)``, whose gradient is that of the softmax
    (straight-through), and ``τ`` falls from ``start`` to ``end`` as ``1/√`` of the share of training. Before, it is
    ``softmax(a)``, equal weights at the start; afterwards the largest ``a`` alone is 1, and the tree stays.
    """

    uses_share: ClassVar[bool] = True

    copies: Count = 4
    """Copies of each hidden layer, each of the agent's width; as many as tasks in the paper."""
    warmup: Share = 0.01
    """Share of training without choices."""
    search: Share = 0.5
    """Share of training after which the tree stays as it is."""
    start: Positive = 5.0
    """Temperature τ at the start."""
    end: Positive = 0.5
    """Temperature τ at the end of training, were there no end of the search."""

    def __post_init__(self) -> None:
        if self.warmup > self.search:
            raise AgentError(
                f"warmup: {self.warmup} ends after the search, which ends at {self.search}"
            )
        if self.end > self.start:
            raise AgentError(
                f"end: {self.end} is above the temperature at the start, {self.start}"
            )

    def parameters(self, size: Size) -> dict[str, Parameter]:
        square = (self.copies, self.copies)
        parameters = expert_parameters(size, self.copies)
        for layer in range(1, size.depth):
            parameters[f"{layer}.choice"] = Parameter(square, 0.0, exact=True)
            noise = Parameter((PERIODS, *square), _gumbel, "frozen", exact=True)
            parameters[f"{layer}.noise"] = noise
        parameters["choice"] = Parameter(square[:1], 0.0, "owned", exact=True)
        parameters["noise"] = Parameter((PERIODS, self.copies), _gumbel, "fixed", exact=True)
        return parameters

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        size = step.size
        copies = experts_of(p, size)
        hidden = x
        for layer in range(size.depth):
            outputs = hidden_layer(copies, layer, hidden, size.activation)
            outputs = outputs.unflatten(0, (-1, self.copies))
            above = layer + 1
            if above < size.depth:
                weights = self._branches(p, above, step.share)
                hidden = recombine(outputs, weights).flatten(0, 1)
        # The last choice is the task's own: which copy its head reads.
        own = self.choose(p["choice"], p["noise"], step.share)
        return recombine(outputs.float(), own.unsqueeze(2)).squeeze(1)

    @property
    def shown(self) -> Mapping[str, Shown]:
        return {
            "branch": Shown(
                rows="copies",
                columns="copies of the layer below",
                by_layer=True,
            ),
            "choice": Shown(
                rows="tasks",
                columns="copies",
            ),
        }

    def shows(self, look: Look) -> Matrices:
        p = look.p
        layers = range(1, look.step.size.depth)
        return {
            "branch": [self._branches(p, layer, look.step.share)[:, 0] for layer in layers],
            "choice": [self.choose(p["choice"], p["noise"], look.step.share)],
        }

    def _branches(self, p: Named, layer: int, share: float) -> Tensor:
        """What each copy of a layer reads of those below, ``[K, G, C, C]``."""
        return self.choose(p[f"{layer}.choice"], p[f"{layer}.noise"], share)

    def choose(self, choice: Tensor, noise: Tensor, share: float) -> Tensor:
        """Weights α of what may be read, ``[K, G, ..., C]``, of logits of this shape.

        Args:
            noise: Gumbel noise of every period, ``[K, 1 or G, PERIODS, ..., C]``.
            share: of training done.
        """
        logits = LOGIT_RATE * choice
        if share < self.warmup:
            return logits.softmax(-1)
        if share >= self.search:
            # The choices keep a gradient, of 0.
            return _largest(logits) + 0 * logits
        period = min(int(share / self.search * PERIODS), PERIODS - 1)
        falls = (self.start / self.end) ** 2 - 1
        temperature = self.start / (1 + falls * share) ** 0.5
        # The noise of a period stays, so acting and losses see the same tree.
        soft = ((logits + noise[:, :, period]) / temperature).softmax(-1)
        return _largest(soft) + soft - soft.detach()


def _largest(scores: Tensor) -> Tensor:
    """1 at the largest of ``[..., C]``, else 0."""
    largest = scores.argmax(-1, keepdim=True)
    return torch.zeros_like(scores).scatter(-1, largest, 1.0)


def _gumbel(size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draws from the standard Gumbel distribution."""
    values = torch.empty(size, device=generator.device)
    # The logarithm of an exponential variable with the other sign.
    return -values.exponential_(generator=generator).log()
