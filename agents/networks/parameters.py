"""Declared parameters of a network, and their place in one flat tensor.

A network is a ``[K, P]`` tensor: ``K`` independent members (seeds, or seeds x twin critics) of ``P`` parameters each.
Keeping the parameters flat makes an optimiser step, a soft target update, a checkpoint and the row of a gradient matrix
one tensor operation each.

A view of a parameter is ``[K, G, *shape]`` with ``G`` groups of rows: 1 for a shared parameter, ``T`` for one that
every task owns. A shared parameter whose gradient is wanted per task is expanded over ``G = T`` tasks (stride 0, no
copy); with real strides over ``T`` every task has values of its own. ``linear`` serves all three.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Literal

import torch
from torch import Tensor

Draw = Callable[[tuple[int, ...], torch.Generator], Tensor]
Kind = Literal["shared", "owned", "frozen", "fixed"]


@dataclass(frozen=True)
class Parameter:
    """One tensor of a network.

    Attributes:
        shape: of one member, and of one task where every task owns one.
        init: a constant, or draws the values of a given shape, with axes of members and groups before its own, from a
            generator.
        kind: ``shared`` by all tasks, whose gradients meet in it; ``owned`` by each task, which alone moves it;
            ``frozen`` keeps its initial value; so does ``fixed``, of which each task has values of its own.
        exact: whether products with it are float32, whatever the arithmetic of the update is.
        tied: whose losses move a parameter that actor and critic have in common: the ``critic``'s alone or ``both``;
            None where each network has its own.
    """

    shape: tuple[int, ...]
    init: float | Draw = 0.0
    kind: Kind = "shared"
    exact: bool = False
    tied: Literal["critic", "both"] | None = None

    def draw(self, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Initial values of ``size``, float32 on the generator's device."""
        if callable(self.init):
            return self.init(size, generator)
        return torch.full(size, self.init, device=generator.device)


def uniform(bound: float) -> Draw:
    """Draws from ``[-bound, bound]``."""
    return partial(_uniform, bound)


def unit_variance() -> Draw:
    """Draws uniform numbers of variance 1, as for what a task has instead of a linear layer of its one-hot code."""
    return uniform(3**0.5)


def he_uniform(fan_in: int, scale: float = 1.0) -> Draw:
    """Draws weights of units with ``fan_in`` inputs (He et al. 2015), times ``scale``."""
    bound = math.sqrt(6 / fan_in)
    return uniform(bound * scale)


def table(rows: Sequence[Sequence[float]]) -> Draw:
    """Gives every member the same ``rows``, one a task."""
    return partial(_table, torch.tensor(rows, dtype=torch.float32))


def _table(rows: Tensor, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return rows.to(generator.device).expand(size).clone()


def _uniform(bound: float, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    values = torch.empty(size, device=generator.device)
    return values.uniform_(-bound, bound, generator=generator)


def orthogonal(gain: float = 1.0) -> Draw:
    """Draws matrices with orthonormal rows or columns, whichever are fewer (Saxe et al. 2014), times ``gain``."""
    return partial(_orthogonal, gain)


def _orthogonal(gain: float, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    normal = torch.randn(size, generator=generator, device=generator.device)
    wide = size[-1] > size[-2]
    q, r = torch.linalg.qr(normal.mT if wide else normal)
    # Without the signs of r the matrices would not be uniform over the orthogonal ones.
    q = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    return gain * (q.mT if wide else q)


@dataclass(frozen=True)
class Params:
    """Parameters of a forward pass.

    Attributes:
        named: views ``[K, G, ...]`` by name, ``PART.name``; shared ones first, then owned, then frozen ones.
        scale: factors ``[K, T]`` of the gradients that tasks send into shared parameters; None for 1.
        tables: what an encoder computed ahead from its parameters.
        split: whether tasks have values of their own in shared parameters, as flat-minima learning gives them.
    """

    named: dict[str, Tensor]
    scale: Tensor | None = None
    tables: tuple[Tensor, ...] = ()
    split: bool = False

    def of(self, part: str) -> dict[str, Tensor]:
        """The parameters of ``encoder``, ``body``, ``memory`` or ``head``, by their name in it."""
        return self._parts.get(part, {})

    @cached_property
    def _parts(self) -> dict[str, dict[str, Tensor]]:
        parts: dict[str, dict[str, Tensor]] = {}
        for name, view in self.named.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = view
        return parts


class Layout:
    """Where each declared parameter lies in a flat ``[K, P]``: shared, then owned, then frozen.

    Attributes:
        shared, owned, frozen: the parameters of a kind by name, in the order of the flat tensor; fixed ones are among
            the frozen.
        by_task: the names of which each task has values of its own.
        places: where each stands in the flat tensor.
        num_shared: how many numbers come first that all tasks share.
    """

    def __init__(self, declared: Mapping[str, Parameter], num_tasks: int) -> None:
        self.num_tasks = num_tasks
        self.shared = _of_kind(declared, "shared")
        self.owned = _of_kind(declared, "owned")
        fixed = _of_kind(declared, "fixed")
        self.frozen = _of_kind(declared, "frozen") | fixed
        self.by_task = {*self.owned, *fixed}
        self.all = self.shared | self.owned | self.frozen
        self.trained = self.shared | self.owned
        self.places: dict[str, slice] = {}
        self._end_of_rounded = 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        end = 0
        for name, parameter in self.all.items():
            groups = num_tasks if name in self.by_task else 1
            self._shapes[name] = (groups, *parameter.shape)
            start = end
            end += math.prod(self._shapes[name])
            self.places[name] = slice(start, end)
            if not parameter.exact:
                self._end_of_rounded = end
        self.num_parameters = end
        self.num_shared = self._size(self.shared)
        self.num_frozen = self._size(self.frozen)

    def _size(self, names: Iterable[str]) -> int:
        """How many numbers the parameters of these names have."""
        return sum(self.places[name].stop - self.places[name].start for name in names)

    def init(self, members: int, generator: torch.Generator) -> Tensor:
        """Initial values ``[members, P]``, drawn in the order of the flat tensor."""
        parts = []
        for name, parameter in self.all.items():
            values = parameter.draw((members, *self._shapes[name]), generator)
            parts.append(values.flatten(1))
        return torch.cat(parts, 1)

    def views(self, flat: Tensor, dtype: torch.dtype) -> Params:
        """Named views of ``flat`` ``[K, P]``, in ``dtype`` but for exact ones, which are float32."""
        # One conversion of all parameters is cheaper than one a layer.
        rounded = flat[:, : self._end_of_rounded].to(dtype)
        named = {}
        for name, place in self.places.items():
            source = flat if self.all[name].exact else rounded
            named[name] = source[:, place].view(len(flat), *self._shapes[name])
        return Params(named)

    def leaves(self, flat: Tensor, dtype: torch.dtype) -> Params:
        """Like ``views``, but each trained one a leaf that gradients can be asked for."""
        named = {}
        for name, view in self.views(flat, dtype).named.items():
            leaf = view.detach()
            named[name] = leaf.requires_grad_() if name in self.trained else leaf
        return Params(named)

    def per_task(self, params: Params, groups: int) -> Params:
        """Leaves whose gradients come out per task, ``[K, groups, ...]``, at the price of one backward pass.

        Nothing is copied: the task axis of shared parameters is an expanded view, and layers form the gradient of each
        task as one batched product. Parameters that each task owns stay as they are.

        Args:
            groups: the number of tasks, or a multiple of it to split each task's rows further.
        """
        expanded = {}
        for name in self.shared:
            view = params.named[name].detach()
            expanded[name] = view.expand(-1, groups, *view.shape[2:]).requires_grad_()
        return replace(params, named=params.named | expanded)

    def plain(self, params: Params) -> Params:
        """Leaves with the values of ``params``, whose gradients sum over tasks."""
        named = {}
        for name, view in params.named.items():
            shared = view[:, :1] if name in self.shared else view
            leaf = shared.detach()
            named[name] = leaf.requires_grad_() if name in self.trained else leaf
        return Params(named)

    def flatten(self, grads: Sequence[Tensor]) -> Tensor:
        """Gradients ``[K, ...]`` of the trained parameters, in their order, as one ``[K, P]`` float32; 0 if frozen."""
        rows = [grad.flatten(1) for grad in grads]
        if self.num_frozen:
            rows.append(rows[0].new_zeros(len(rows[0]), self.num_frozen))
        return torch.cat(rows, 1).float()


def _of_kind(declared: Mapping[str, Parameter], kind: Kind) -> dict[str, Parameter]:
    return {name: parameter for name, parameter in declared.items() if parameter.kind == kind}
