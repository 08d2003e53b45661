"""From per-task losses to one gradient: the only place where tasks are reduced.

Plain averaging is one ordinary backward pass, and so is every method whose weights follow from the losses alone. The
others need each task's gradient of the shared parameters.
With a task-major batch these come out of one backward pass too (``Layout.per_task``), as pieces ``[K, T, ...]``, one a
parameter. Their Gramian is summed piece by piece, so the Jacobian is never assembled unless a method asks for it.

What a task owns (its head, and what a body gives each task) stays outside the Gramian, where it could not conflict and
would only distort the norms: it gets its own task's gradient, at the scale that averaging gives it.

Some methods (``Moving``) ask for each task's gradient a second time, at parameters moved for that task alone. Then
every task passes through parameters of its own, as products batched over tasks: again one backward pass. Twin critics
are one parameter vector, so the radius is that of both. Under flat-minima learning what tasks own is not moved and
keeps its plain gradient, where the paper takes a separate step of the same kind with a radius of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mtrl.agents.aggregators import Aggregator, Inputs, State
from mtrl.agents.aggregators.diagnostics import (
    condition_number,
    conflict_rate,
    cosines,
    magnitude_similarity,
    task_gains,
)
from mtrl.agents.aggregators.fixed import Mean
from mtrl.agents.aggregators.moving import Moving
from mtrl.agents.aggregators.sparse import Sparse, sparse_mask
from mtrl.agents.aggregators.weighting import scaled
from mtrl.agents.networks.network import Network
from mtrl.agents.networks.parameters import Params
from mtrl.agents.optim.pieces import combine, gramian_of, has_kernels, jacobian_of, split
from mtrl.agents.optim.shares import preferences_from, undo

TRACK_DECAY = 0.9
Losses = Callable[[Params], Tensor]
"""Losses ``[S, T]`` of a batch at given parameters."""


@dataclass(frozen=True)
class Reduction:
    """How one network reduces its tasks.

    Attributes:
        network: layout of the network's members.
        aggregator: the gradient method.
        num_tasks: T.
        twins: members that share a seed and are updated as one parameter vector (2 for twin critics).
        track: whether the state holds task gradients averaged over updates, for curricula that look at their Gramian.
        diagnose: whether metrics tell how the task gradients relate, whatever the method needs.
        preferences: the tasks' preferences with sum 1, where the aggregator's settings name some.
        learning_rate: of the optimizer, for methods that take a step of their own.
    """

    network: Network
    aggregator: Aggregator
    num_tasks: int
    twins: int = 1
    track: bool = False
    diagnose: bool = False
    preferences: tuple[float, ...] | None = None
    learning_rate: float = 0.0

    @property
    def method(self) -> Aggregator:
        """The aggregator without the mask of sparse training, which is applied here."""
        return self.aggregator.base if isinstance(self.aggregator, Sparse) else self.aggregator

    def at(self, step: int | None, share: float) -> Reduction:
        """The reduction of the update ``step``, at a ``share`` of training; see ``Aggregator.at``."""
        rule = self.aggregator.at(step, share)
        return self if rule is self.aggregator else replace(self, aggregator=rule)

    def parts(self, like: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Weights of samples in the losses of ``gradient`` and in those of ``again``, like ``like`` ``[S, T, b]``; None
        where all count the same."""
        return self.method.parts(like) if isinstance(self.method, Moving) else (None, None)

    @property
    def is_mean(self) -> bool:
        """Whether one ordinary backward pass of the mean loss is enough."""
        return isinstance(self.method, Mean) and not (self.track or self.diagnose)

    @property
    def losses_suffice(self) -> bool:
        """Whether weights are known before the backward pass, so that no task's gradient has to be formed.

        They then scale what each task sends into the features, which would scale parameters that tasks own before them.
        """
        if not self.network.owns_heads_only:
            return False
        info = self.aggregator.info
        reads_gradients = bool(info.needs & {"gramian", "jacobian", "cross_gramian"})
        if reads_gradients or info.direction_only:
            return False
        return not (self.track or self.diagnose)

    @property
    def groups(self) -> int:
        """Groups of rows that get a gradient of their own: tasks, or halves of tasks for cross Gramians."""
        needs_halves = "cross_gramian" in self.aggregator.info.needs
        return 2 * self.num_tasks if needs_halves else self.num_tasks

    @property
    def num_shared(self) -> int:
        """Parameters of one seed that all tasks share."""
        return self.twins * self.network.layout.num_shared

    def init(self, seeds: int, device: torch.device, params: Tensor | None = None) -> State:
        """The aggregator's state, with a leading axis of seeds; the averaged gradients where they are tracked; the mask
        of sparse training.

        Args:
            params: the initial parameters ``[K, P]``, from which the mask is drawn.
        """
        state = self.aggregator.init(
            self.num_tasks, num_params=self.num_shared, batch_shape=(seeds,), device=device
        )
        if self.track:
            state["tracked"] = torch.zeros(
                seeds,
                self.num_tasks,
                self.num_shared,
                device=device,
            )
        if isinstance(self.aggregator, Sparse):
            assert params is not None, (
                "sparse training draws its mask from the initial parameters"
            )
            state["mask"] = self._mask(params, self.aggregator.keep).view(seeds, -1)
        return state

    def _mask(self, params: Tensor, keep: int) -> Tensor:
        """Which shared parameters train, bool ``[K, n]``: before the heads ``keep`` weights a neuron, else all."""
        parts = []
        named = self.network.views(params, params.dtype).named
        for name in self.network.layout.shared:
            mask = torch.ones_like(named[name], dtype=torch.bool)
            if name in self.network.hidden_weights:
                mask = sparse_mask(named[name], keep)
            parts.append(mask.flatten(1))
        return torch.cat(parts, 1)

    def noise_shape(self) -> tuple[int, ...] | None:
        """Shape of the uniform noise of one seed and update; None if the method draws none."""
        return self.aggregator.noise_shape(self.num_tasks, self.num_shared)

    def leaves(self, flat: Tensor, dtype: torch.dtype) -> Params:
        """Leaves of ``[K, P]`` to run the forward pass on, so that ``gradient`` gets what it needs."""
        layout = self.network.layout
        leaves = layout.leaves(flat, dtype)
        if self.is_mean:
            return leaves
        if not self.losses_suffice:
            return layout.per_task(leaves, self.groups)
        if not layout.owned:
            return leaves
        return replace(leaves, scale=flat.new_ones(len(flat), self.num_tasks))

    def gradient(
        self,
        losses: Tensor,
        leaves: Params,
        state: State,
        noise: Tensor | None,
        success: Tensor | None = None,
        step: int | None = None,
        weights: Tensor | None = None,
        *,
        again: Losses,
        extra: Losses | None = None,
        trains: Tensor | None = None,
    ) -> tuple[Tensor, State, dict[str, Tensor]]:
        """The update's gradient.

        Args:
            losses: ``[S, T]``, computed from ``leaves``.
            state: from ``init``; not changed.
            noise: uniform ``[S, *noise_shape()]``.
            success: recent success rate per task ``[S, T]`` in [0, 1].
            step: number of updates so far, on the host.
            weights: factors of the tasks' losses ``[S, T]`` from a curriculum; None for 1. A task at 0 does not train.
            again: computes the losses once more, for methods that look at them elsewhere.
            extra: computes a loss of each member ``[K]`` that mixes tasks; its gradient joins after aggregation.
            trains: bool ``[S, ..., P]``, the parameters that train now, whose gradients alone a method looks at; None
                for all. The caller sets the gradient of the others to 0.

        Returns:
            Gradient ``[K, P]`` float32, the new state, and metrics ``[S]`` or ``[S, T]``.
        """
        grad, state, metrics = self._aggregate(
            losses, leaves, state, noise, success, step, weights, again, trains
        )
        if extra is not None:
            plain = self.network.layout.plain(leaves)
            grads = torch.autograd.grad(
                extra(plain).sum(), self._trained(plain), materialize_grads=True
            )
            grad = grad + self._masked(self.network.layout.flatten(grads), state)
        return grad, state, metrics

    def _aggregate(
        self,
        losses: Tensor,
        leaves: Params,
        state: State,
        noise: Tensor | None,
        success: Tensor | None,
        step: int | None,
        weights: Tensor | None,
        again: Losses,
        trains: Tensor | None,
    ) -> tuple[Tensor, State, dict[str, Tensor]]:
        """``gradient`` of the tasks' own losses."""
        layout = self.network.layout
        weighted = losses if weights is None else losses * weights
        kept = {name: state[name] for name in ("mask",) if name in state}
        if self.is_mean:
            mean = weighted.mean(-1).sum()
            grads = torch.autograd.grad(mean, self._trained(leaves))
            return self._masked(layout.flatten(grads), state), state, {}
        if self.losses_suffice:
            inputs = Inputs(
                losses=losses.detach(),
                success=success,
                noise=noise,
                step=step,
            )
            solved, state = self.aggregator.weights(inputs, state)
            metrics = {"task_weight": solved.weights.float()}
            by_leaf = self._weighted(weighted, solved.weights, leaves)
            return self._masked(layout.flatten(by_leaf), kept), state | kept, metrics

        pieces, own = self._task_gradients(weighted, leaves)
        masks = self._masks(state, trains)
        pieces = self._masked_pieces(pieces, masks)
        tracked = self._tracked(pieces, state, weights)
        inputs = self._inputs(pieces, losses.detach(), noise, success, step)
        metrics = {}
        if isinstance(self.method, Moving):
            moved = self._move(self.method, inputs, leaves, pieces, own, weights)
            there = again(moved)
            metrics[self.method.looks] = self.method.compare(there.detach(), losses.detach())
            weighted_there = there if weights is None else there * weights
            inputs, own_there = self._with_perturbed(inputs, weighted_there, moved, masks)
            own = own_there if self.method.moves_owned else own
        combined, state, about, task_weight = self._reduce(inputs, pieces, weights, state)
        metrics |= about
        if inputs.gramian is not None or self.diagnose:
            metrics |= self._diagnostics(inputs.gramian, pieces, task_weight)
        # Shared parameters come first in a network's layout.
        members = len(losses) * self.twins
        parts = [part.reshape(members, -1) for part in combined] + own
        logged = {name: metric.float() for name, metric in metrics.items()}
        return layout.flatten(parts), state | tracked | kept, logged

    def _reduce(
        self, inputs: Inputs, pieces: list[Tensor], weights: Tensor | None, state: State
    ) -> tuple[list[Tensor], State, dict[str, Tensor], Tensor | None]:
        """What the method makes of ``pieces``, the gradients of losses times ``weights``.

        Returns:
            The update as pieces ``[S, twins, n]``, the new state, metrics, and the weights ``[S, T]`` of ``pieces`` in
            it where it is a weighted sum.
        """
        seen, factors = self._as_seen(inputs, weights)
        if self.aggregator.info.direction_only:
            direction, state = self.aggregator.direction(seen, state)
            metrics = {"residual": direction.residual, "solve_failures": ~direction.converged}
            return split(direction.direction, pieces), state, metrics, None
        solved, state = self.aggregator.weights(seen, state)
        metrics = {
            "residual": solved.residual,
            "solve_failures": ~solved.converged,
            "task_weight": solved.weights,
        }
        of_pieces = solved.weights if factors is None else solved.weights * factors
        combined = [combine(piece, of_pieces) for piece in pieces]
        return combined, state, metrics, of_pieces

    def _as_seen(self, inputs: Inputs, weights: Tensor | None) -> tuple[Inputs, Tensor | None]:
        """What the method is to see of gradients of losses times ``weights``, and the factors ``[S, T]`` in between.

        A method that takes preferences sees the gradients of the plain losses; so does one that only leaves tasks out.
        """
        if weights is None or self.aggregator.info.shares == "losses":
            if self.preferences is None:
                return inputs, None
            assert inputs.losses is not None
            preferences = preferences_from(self.preferences, None, inputs.losses)
            return replace(inputs, preferences=preferences), None
        factors = undo(weights)
        preferences = preferences_from(self.preferences, weights, weights)
        return replace(scaled(inputs, factors), preferences=preferences), factors

    def _masked(self, grad: Tensor, state: State) -> Tensor:
        """``grad`` ``[K, P]`` with 0 where sparse training does not train."""
        if "mask" in state:
            mask = state["mask"].view(len(grad), -1)
            grad[:, : mask.shape[1]] *= mask
        return grad

    def _masks(self, state: State, trains: Tensor | None) -> list[Tensor]:
        """Which shared parameters a method looks at, bool ``[S, twins, n]`` each: of sparse training, of the phase."""
        masks = []
        if "mask" in state:
            masks.append(state["mask"].unflatten(1, (self.twins, -1)))
        if trains is not None:
            members = trains.view(len(trains), self.twins, -1)
            masks.append(members[..., : self.network.layout.num_shared])
        return masks

    def _masked_pieces(self, pieces: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Pieces ``[S, twins, groups, n]`` with 0 where one of the masks is."""
        sizes = [piece.shape[3] for piece in pieces]
        for mask in masks:
            parts = mask.split(sizes, 2)
            pieces = [piece * part.unsqueeze(2) for piece, part in zip(pieces, parts)]
        return pieces

    def _task_gradients(
        self, losses: Tensor, leaves: Params
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Gradients of ``losses`` ``[S, T]`` from one backward pass.

        Returns:
            Each task's gradient of the shared parameters as pieces ``[S, twins, groups, n]``, one a leaf, and the
            gradients of what tasks own at the scale of averaging.
        """
        seeds = losses.shape[0]
        grads = torch.autograd.grad(losses.sum(), self._trained(leaves))
        pieces = []
        own = []
        for name, grad in zip(self.network.layout.trained, grads):
            if name in self.network.layout.owned:
                own.append(grad / self.num_tasks)
                continue
            piece = grad.reshape(seeds, self.twins, self.groups, -1)
            # Pieces are read twice, for the Gramian and for the sum, so they are converted once, here.
            pieces.append(piece if has_kernels(piece) else piece.float())
        return pieces, own

    def _move(
        self,
        method: Moving,
        inputs: Inputs,
        leaves: Params,
        pieces: list[Tensor],
        own: list[Tensor],
        weights: Tensor | None,
    ) -> Params:
        """Leaves ``[K, T, ...]`` at each task's own step from ``leaves``.

        Args:
            pieces, own: from ``_task_gradients``, of losses times ``weights``.
        """
        assert inputs.jacobian is not None, "a second look needs the jacobian"
        layout = self.network.layout
        norms = torch.linalg.vector_norm(inputs.jacobian, dim=-1, dtype=torch.float64)
        # Gradients of what tasks own stand at the scale of averaging.
        owned = {}
        if method.moves_owned:
            for name, grad in zip(layout.owned, own, strict=True):
                owned[name] = grad * self.num_tasks
        lengths = [norms]
        for grad in owned.values():
            lengths.append(self._norms(grad))
        if owned:
            norms = torch.linalg.vector_norm(torch.stack(lengths), dim=0)
        factors = None if weights is None else undo(weights)
        scale = method.scales(norms, factors, self.learning_rate).float()
        moved = {name: leaf.detach() for name, leaf in leaves.named.items()}
        for name, piece in zip(layout.shared, pieces, strict=True):
            step = piece * scale[:, None, :, None]
            there = moved[name] + step.reshape(moved[name].shape)
            moved[name] = there.requires_grad_()
        of_members = scale.repeat_interleave(self.twins, 0)
        for name, grad in owned.items():
            trailing = [1] * (grad.dim() - 2)
            step = grad * of_members.view(*of_members.shape, *trailing)
            there = moved[name] + step
            moved[name] = there.requires_grad_()
        return Params(moved, split=True)

    def _norms(self, grad: Tensor) -> Tensor:
        """Norms ``[S, T]`` float64 of a gradient ``[K, T, ...]`` of what tasks own."""
        rows = grad.reshape(-1, self.twins, self.num_tasks, grad[0, 0].numel())
        return torch.linalg.vector_norm(rows, dim=(1, 3), dtype=torch.float64)

    def _with_perturbed(
        self, inputs: Inputs, losses: Tensor, moved: Params, masks: list[Tensor]
    ) -> tuple[Inputs, list[Tensor]]:
        """``inputs`` with the gradients of ``losses`` at moved parameters; and those of what tasks own and moved, at
        the scale of averaging."""
        names = [name for name, leaf in moved.named.items() if leaf.requires_grad]
        found = torch.autograd.grad(losses.sum(), [moved.named[name] for name in names])
        grads = dict(zip(names, found, strict=True))
        shape = (losses.shape[0], self.twins, self.groups, -1)
        layout = self.network.layout
        shared = [grads[name].reshape(shape) for name in layout.shared]
        pieces = self._masked_pieces(shared, masks)
        own = [grads[name] / self.num_tasks for name in layout.owned if name in grads]
        return replace(inputs, perturbed_jacobian=jacobian_of(pieces)), own

    def _diagnostics(
        self, gramian: Tensor | None, pieces: list[Tensor], weights: Tensor | None
    ) -> dict[str, Tensor]:
        """Scalars ``[S]``, gains ``[S, T]`` and cosines ``[S, T, T]``; the last two and conditioning only if asked."""
        if gramian is None:
            # A task's gradient is the sum of those of its halves, if it was split.
            parts = self.groups // self.num_tasks
            of_tasks = [piece.float().unflatten(2, (-1, parts)).sum(3) for piece in pieces]
            gramian = gramian_of(of_tasks)
        metrics = {
            "conflict_rate": conflict_rate(gramian),
            "magnitude_similarity": magnitude_similarity(gramian),
        }
        if self.diagnose:
            metrics["inverse_condition_number"] = 1 / condition_number(gramian)
            metrics["cosines"] = cosines(gramian)
            if weights is not None:
                metrics["gain"] = task_gains(gramian, weights)
        return metrics

    def _weighted(self, losses: Tensor, weights: Tensor, leaves: Params) -> list[Tensor]:
        """Gradients of the weighted sum of ``losses`` ``[S, T]``; task-owned heads keep the scale of averaging."""
        layout = self.network.layout
        if leaves.scale is None:
            total = (losses * weights).sum()
            return list(torch.autograd.grad(total, self._trained(leaves)))
        # Weights on the losses would scale the heads too; these scale only what tasks send into the features.
        leaves.scale.copy_(weights.repeat_interleave(self.twins, 0))
        grads = torch.autograd.grad(losses.sum(), self._trained(leaves))
        scaled = []
        for name, grad in zip(layout.trained, grads):
            scaled.append(grad / self.num_tasks if name in layout.owned else grad)
        return scaled

    def _tracked(self, pieces: list[Tensor], state: State, weights: Tensor | None) -> State:
        """The averaged gradients with this update's; those of tasks that did not train stay as they are."""
        if not self.track:
            return {}
        rows = jacobian_of(pieces)
        has_halves = rows.shape[1] != self.num_tasks
        if has_halves:
            rows = rows.unflatten(1, (self.num_tasks, -1)).sum(2)
        before = state["tracked"]
        if weights is None:
            return {"tracked": before.lerp(rows, 1 - TRACK_DECAY)}
        # The curriculum's weights are divided out: tracked gradients are those of the plain losses.
        trains = (weights > 0).unsqueeze(-1)
        plain = rows / torch.where(trains, weights.unsqueeze(-1), 1.0)
        after = before.lerp(plain, 1 - TRACK_DECAY)
        return {"tracked": torch.where(trains, after, before)}

    def _trained(self, leaves: Params) -> list[Tensor]:
        """The leaves that are trained, in the order of the flat tensor."""
        return [leaves.named[name] for name in self.network.layout.trained]

    def _inputs(
        self,
        pieces: list[Tensor],
        losses: Tensor,
        noise: Tensor | None,
        success: Tensor | None,
        step: int | None,
    ) -> Inputs:
        needs = self.aggregator.info.needs
        if "cross_gramian" in needs:
            cross = gramian_of(pieces, halves=True)
            return Inputs(
                cross_gramian=cross, losses=losses, success=success, noise=noise, step=step
            )
        return Inputs(
            gramian=gramian_of(pieces) if "gramian" in needs else None,
            jacobian=jacobian_of(pieces) if "jacobian" in needs else None,
            losses=losses,
            success=success,
            noise=noise,
            step=step,
        )


def tracked_gramian(states: list[State]) -> Tensor:
    """``[T, T]`` float64 on the CPU of one seed's averaged gradients, each network's part scaled to trace 1."""
    parts = []
    for state in states:
        rows = state["tracked"][0]
        products = (rows @ rows.T).double().cpu()
        # Unscaled, the network of the longest gradients would decide alone.
        trace = products.diagonal().sum()
        parts.append(products / torch.where(trace > 0, trace, 1.0))
    return torch.stack(parts).sum(0)
