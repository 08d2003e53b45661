"""Parameter-compositional multi-task RL (PaCo, Sun et al. 2022): each task's weights are a mixture of sets of weights.

All sets start identical, so every convex mixture of them starts as the same function; each task's mixture starts as a
random convex one. One mixture serves actor and critics and is trained by the losses of both. Each task's weights are
formed once for all of its rows, so the products cost what they cost the plain MLP, whatever the number of sets.

A task whose losses explode is left out of the update, and its mixture becomes a random convex one of the other tasks',
unless the losses of all do.
To know, each update computes all losses once more, before its first step.

Reading: the heads are those of the agent's settings, where the paper composes them too; a head of each task can be what
a composed one can. Public code that applies softmax to the mixture keeps it convex, which the paper does not, and code
that draws the sets apart starts tasks from different functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from mtrl.agents.networks.bodies.body import Body, Look, Step, Stepped
from mtrl.agents.networks.composed import compose
from mtrl.agents.networks.layers import Named, Size, hidden_layers, hidden_parameters
from mtrl.agents.networks.linear import of_members
from mtrl.agents.networks.parameters import Draw, Parameter
from mtrl.agents.networks.shown import Matrices, Shown
from mtrl.agents.settings import Count, NonNegative, settings

TINY = 1e-12


@settings
class PaCo(Body):
    """The plain MLP with weights ``W_t = Σ_e w_te Φ_e``."""

    sets: Count = 5
    """Sets of weights; 5 on MT10 and 20 on MT50 in the paper."""
    loss_limit: NonNegative = 3e3
    """Sum of a task's losses of actor, critics and temperature above which the task is left out and its mixture drawn
    anew; 0 for none."""

    @property
    def masks_tasks(self) -> bool:
        return self.loss_limit > 0

    @property
    def corrects_steps(self) -> bool:
        return self.masks_tasks

    def parameters(self, size: Size) -> dict[str, Parameter]:
        found = {
            "mixture": Parameter((self.sets,), convex, "owned", exact=True, tied="both"),
        }
        for name, one in hidden_parameters(size).items():
            start = identical(one.init) if callable(one.init) else one.init
            found[name] = Parameter((self.sets, *one.shape), start)
        return found

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        composed = self.constants(p) if "mixture" in p else p
        return hidden_layers(composed, x, step.size)

    def constants(self, p: Named) -> Named:
        """The tasks' weights, without the mixture that they are made by."""
        composed = {}
        for name, sets in p.items():
            if name != "mixture":
                composed[name] = compose(sets, p["mixture"])
        return composed

    @property
    def shown(self) -> Mapping[str, Shown]:
        return {
            "mixture": Shown(
                rows="tasks",
                columns="sets",
                signed=True,
            )
        }

    def shows(self, look: Look) -> Matrices:
        p = look.p
        return {"mixture": [p["mixture"]]}

    def mask(self, losses: Tensor) -> Tensor:
        # NaN is above every limit.
        learns = losses <= self.loss_limit
        # Without another task there is no mixture to draw from, and left out for ever none would recover.
        alone = ~learns.any(-1, keepdim=True)
        return (learns | alone).to(losses.dtype)

    def redraw_size(self, size: Size) -> int:
        """One weight for each task that another's mixture can be made of."""
        return size.num_tasks if self.masks_tasks else 0

    def after_step(self, p: Named, step: Stepped) -> Named:
        assert step.masked is not None and step.noise is not None
        mixture = p["mixture"]
        masked = of_members(step.masked, len(mixture))
        # Shares of exponential numbers are uniform among convex mixtures.
        weights = -torch.log1p(-of_members(step.noise, len(mixture)))
        weights = weights * ~masked.unsqueeze(1)
        total = weights.sum(-1, keepdim=True)
        # Where no other task is left to mix, the mixture stays.
        redrawn = masked.unsqueeze(-1) & (total > 0)
        others = (weights / total.clamp_min(TINY)) @ mixture
        return {"mixture": torch.where(redrawn, others, mixture)}


def identical(draw: Draw) -> Draw:
    """Draws one set for all of the sets of a parameter."""
    return partial(_identical, draw)


def _identical(draw: Draw, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    members, groups, _, *shape = size
    one = draw((members, groups, 1, *shape), generator)
    return one.expand(size).clone()


def convex(size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Weights that are not negative and sum to 1 over the last axis, drawn uniformly among them."""
    uniform = torch.rand(size, generator=generator, device=generator.device)
    exponential = -torch.log1p(-uniform)
    return exponential / exponential.sum(-1, keepdim=True)
