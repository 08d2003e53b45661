"""From per-task losses to one gradient: the only place where tasks are reduced.

Plain averaging is one ordinary backward pass, and so is every method whose weights follow from the losses alone. The
others need each task's gradient of the shared parameters.
With a task-major batch these come out of one backward pass too (``MLP.per_task``), as pieces ``[K, T, ...]``, one a
parameter. Their Gramian is summed piece by piece, so the Jacobian is never assembled unless a method asks for it.

Task-owned heads stay outside the Gramian, where they could not conflict and would only distort the norms: each head
gets its own task's gradient, at the scale that averaging gives it.

Flat-minima learning asks for each task's gradient a second time, at shared parameters moved for that task alone. Then
every task passes through parameters of its own, as products batched over tasks: again one backward pass. Twin critics
are one parameter vector, so the radius is that of both. Task-owned heads are not moved and keep their plain gradient,
where the paper takes a separate step of the same kind with a radius of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mtrl.agents.aggregators import Aggregator, FlatMinima, Inputs, State
from mtrl.agents.aggregators.diagnostics import (
    condition_number,
    conflict_rate,
    cosines,
    magnitude_similarity,
    task_gains,
)
from mtrl.agents.aggregators.fixed import Mean
from mtrl.agents.aggregators.sparse import Sparse, sparse_mask
from mtrl.agents.aggregators.weighting import scaled
from mtrl.agents.networks.network import MLP, TASK_SCALE, OwnViews, Views, flatten_gradients
from mtrl.agents.optim.shares import preferences_from, undo

TRACK_DECAY = 0.9
MOST_ROWS = 24
Losses = Callable[[Views], Tensor]
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
    """

    network: MLP
    aggregator: Aggregator
    num_tasks: int
    twins: int = 1
    track: bool = False
    diagnose: bool = False
    preferences: tuple[float, ...] | None = None

    @property
    def method(self) -> Aggregator:
        """The aggregator without the mask of sparse training, which is applied here."""
        return self.aggregator.base if isinstance(self.aggregator, Sparse) else self.aggregator

    @property
    def is_mean(self) -> bool:
        """Whether one ordinary backward pass of the mean loss is enough."""
        return isinstance(self.method, Mean) and not (self.track or self.diagnose)

    @property
    def losses_suffice(self) -> bool:
        """Whether weights are known before the backward pass, so that no task's gradient has to be formed."""
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
        network = self.network
        if network.num_heads > 1:
            return self.twins * network.num_trunk_parameters
        return self.twins * network.num_parameters

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
            assert params is not None, "sparse training draws its mask from the initial parameters"
            state["mask"] = self._mask(params, self.aggregator.keep).view(seeds, -1)
        return state

    def _mask(self, params: Tensor, keep: int) -> Tensor:
        """Which shared parameters train, bool ``[K, n]``: of the trunk's matrices ``keep`` entries a row, else all."""
        parts = []
        for name, view in self.network.views(params, params.dtype).items():
            if not self._is_shared(name):
                continue
            mask = torch.ones_like(view, dtype=torch.bool)
            if name in self.network.trunk_shapes and view.dim() == 3:
                mask = sparse_mask(view, keep)
            parts.append(mask.flatten(1))
        return torch.cat(parts, 1)

    def noise_shape(self) -> tuple[int, ...] | None:
        """Shape of the uniform noise of one seed and update; None if the method draws none."""
        return self.aggregator.noise_shape(self.num_tasks, self.num_shared)

    def leaves(self, flat: Tensor, dtype: torch.dtype) -> Views:
        """Leaves of ``[K, P]`` to run the forward pass on, so that ``gradient`` gets what it needs."""
        leaves = self.network.leaves(flat, dtype)
        if self.is_mean:
            return leaves
        if not self.losses_suffice:
            return self.network.per_task(leaves, self.groups)
        if self.network.num_heads > 1:
            leaves[TASK_SCALE] = flat.new_ones(len(flat), self.num_tasks)
        return leaves

    def gradient(
        self,
        losses: Tensor,
        leaves: Views,
        state: State,
        noise: Tensor | None,
        success: Tensor | None = None,
        step: int | None = None,
        weights: Tensor | None = None,
        *,
        again: Losses,
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

        Returns:
            Gradient ``[K, P]`` float32, the new state, and metrics ``[S]`` or ``[S, T]``.
        """
        weighted = losses if weights is None else losses * weights
        kept = {name: state[name] for name in ("mask",) if name in state}
        if self.is_mean:
            mean = weighted.mean(-1).sum()
            grads = torch.autograd.grad(mean, list(leaves.values()))
            return self._masked(flatten_gradients(grads), state), state, {}
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
            return self._masked(flatten_gradients(by_leaf), kept), state | kept, metrics

        pieces, own = self._task_gradients(weighted, leaves)
        pieces = self._masked_pieces(pieces, state)
        tracked = self._tracked(pieces, state, weights)
        inputs = self._inputs(pieces, losses.detach(), noise, success, step)
        metrics = {}
        if isinstance(self.method, FlatMinima):
            moved = self._move(self.method, inputs, leaves, pieces)
            there = again(moved)
            metrics["sharpness"] = there.detach() - losses.detach()
            weighted_there = there if weights is None else there * weights
            inputs = self._with_perturbed(inputs, weighted_there, moved, state)
        combined, state, about, task_weight = self._reduce(inputs, pieces, weights, state)
        metrics |= about
        if inputs.gramian is not None or self.diagnose:
            metrics |= self._diagnostics(inputs.gramian, pieces, task_weight)
        # Shared parameters come first in a network's layout, heads last.
        members = len(losses) * self.twins
        parts = [part.reshape(members, -1) for part in combined] + own
        logged = {name: metric.float() for name, metric in metrics.items()}
        return flatten_gradients(parts), state | tracked | kept, logged

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
            return _split(direction.direction, pieces), state, metrics, None
        solved, state = self.aggregator.weights(seen, state)
        metrics = {
            "residual": solved.residual,
            "solve_failures": ~solved.converged,
            "task_weight": solved.weights,
        }
        of_pieces = solved.weights if factors is None else solved.weights * factors
        combined = [_combine(piece, of_pieces) for piece in pieces]
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

    def _masked_pieces(self, pieces: list[Tensor], state: State) -> list[Tensor]:
        """The same for pieces ``[S, twins, groups, n]``."""
        if "mask" not in state:
            return pieces
        members = state["mask"].unflatten(1, (self.twins, -1))
        masks = members.split([piece.shape[3] for piece in pieces], 2)
        return [piece * mask.unsqueeze(2) for piece, mask in zip(pieces, masks)]

    def _task_gradients(self, losses: Tensor, leaves: Views) -> tuple[list[Tensor], list[Tensor]]:
        """Gradients of ``losses`` ``[S, T]`` from one backward pass.

        Returns:
            Each task's gradient of the shared parameters as pieces ``[S, twins, groups, n]``, one a leaf, and the
            gradients of task-owned heads at the scale of averaging.
        """
        seeds = losses.shape[0]
        grads = torch.autograd.grad(losses.sum(), list(leaves.values()))
        pieces = []
        own = []
        for name, grad in zip(leaves, grads):
            if not self._is_shared(name):
                own.append(grad / self.num_tasks)
                continue
            piece = grad.view(seeds, self.twins, self.groups, -1)
            # Pieces are read twice, for the Gramian and for the sum, so they are converted once, here.
            pieces.append(piece if _has_kernels(piece) else piece.float())
        return pieces, own

    def _move(
        self, aggregator: FlatMinima, inputs: Inputs, leaves: Views, pieces: list[Tensor]
    ) -> OwnViews:
        """Leaves ``[K, T, ...]``, the shared ones at each task's own step away from ``leaves``."""
        assert inputs.jacobian is not None, "flat minima need the jacobian"
        steps = iter(_split(aggregator.perturbations(inputs.jacobian), pieces))
        moved = OwnViews()
        for name, leaf in leaves.items():
            moved[name] = leaf.detach()
            if self._is_shared(name):
                step = next(steps).transpose(1, 2).reshape(leaf.shape)
                moved[name] = (leaf.detach() + step).requires_grad_()
        return moved

    def _with_perturbed(
        self, inputs: Inputs, losses: Tensor, moved: OwnViews, state: State
    ) -> Inputs:
        """``inputs`` with the gradients of ``losses`` at moved parameters."""
        leaves = [leaf for name, leaf in moved.items() if self._is_shared(name)]
        grads = torch.autograd.grad(losses.sum(), leaves)
        shape = (losses.shape[0], self.twins, self.groups, -1)
        pieces = self._masked_pieces([grad.view(shape) for grad in grads], state)
        return replace(inputs, perturbed_jacobian=_jacobian(pieces))

    def _diagnostics(
        self, gramian: Tensor | None, pieces: list[Tensor], weights: Tensor | None
    ) -> dict[str, Tensor]:
        """Scalars ``[S]``, gains ``[S, T]`` and cosines ``[S, T, T]``; the last two and conditioning only if asked."""
        if gramian is None:
            # A task's gradient is the sum of those of its halves, if it was split.
            parts = self.groups // self.num_tasks
            of_tasks = [piece.float().unflatten(2, (-1, parts)).sum(3) for piece in pieces]
            gramian = _gramian(of_tasks)
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

    def _weighted(self, losses: Tensor, weights: Tensor, leaves: Views) -> list[Tensor]:
        """Gradients of the weighted sum of ``losses`` ``[S, T]``; task-owned heads keep the scale of averaging."""
        if self.network.num_heads == 1:
            total = (losses * weights).sum()
            return list(torch.autograd.grad(total, list(leaves.values())))
        # Weights on the losses would scale the heads too; ``ScaleTasks`` scales only what reaches the trunk.
        leaves[TASK_SCALE].copy_(weights.repeat_interleave(self.twins, 0))
        params = {name: leaf for name, leaf in leaves.items() if name != TASK_SCALE}
        grads = torch.autograd.grad(losses.sum(), list(params.values()))
        scaled = []
        for name, grad in zip(params, grads):
            scaled.append(grad if self._is_shared(name) else grad / self.num_tasks)
        return scaled

    def _tracked(self, pieces: list[Tensor], state: State, weights: Tensor | None) -> State:
        """The averaged gradients with this update's; those of tasks that did not train stay as they are."""
        if not self.track:
            return {}
        rows = _jacobian(pieces)
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

    def _is_shared(self, name: str) -> bool:
        """Whether all tasks share the parameters of this name."""
        return name in self.network.trunk_shapes or self.network.num_heads == 1

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
            cross = _gramian(pieces, halves=True)
            return Inputs(
                cross_gramian=cross, losses=losses, success=success, noise=noise, step=step
            )
        return Inputs(
            gramian=_gramian(pieces) if "gramian" in needs else None,
            jacobian=_jacobian(pieces) if "jacobian" in needs else None,
            losses=losses,
            success=success,
            noise=noise,
            step=step,
        )


def _has_kernels(piece: Tensor) -> bool:
    """Whether compiled loops take the piece as it is. With more rows a library is as fast, and has threads."""
    if piece.device.type != "cpu" or piece.dtype != torch.bfloat16:
        return False
    return piece.shape[2] <= MOST_ROWS


def _jacobian(pieces: list[Tensor]) -> Tensor:
    """``[S, T, P]`` float32 of pieces ``[S, twins, T, n]``."""
    rows = [piece.transpose(1, 2).flatten(2) for piece in pieces]
    return torch.cat(rows, -1).float()


def _gramian(pieces: list[Tensor], halves: bool = False) -> Tensor:
    """``Σ_pieces J Jᵀ`` ``[S, T, T]`` float32 of pieces ``[S, twins, T, n]``.

    With ``halves`` ``J₁ J₂ᵀ`` of pieces ``[S, twins, 2 T, n]``, whose rows alternate between the two.
    """
    shares = []
    for piece in pieces:
        if _has_kernels(piece):
            continue
        left = piece[:, :, ::2] if halves else piece
        right = piece[:, :, 1::2] if halves else piece
        shares.append((left @ right.mT).sum(1))
    narrow = [piece for piece in pieces if _has_kernels(piece)]
    if narrow:
        # Imported here because only some methods need compiled code.
        from mtrl.agents.optim.gramian_kernels import add_products

        seeds, _, groups, _ = narrow[0].shape
        tasks = groups // 2 if halves else groups
        total = np.zeros((seeds, tasks, tasks))
        for piece in narrow:
            add_products(_bits(piece), halves, total)
        shares.append(torch.from_numpy(total).float())
    return torch.stack(shares).sum(0)


def _combine(piece: Tensor, weights: Tensor) -> Tensor:
    """``Jᵀ w`` ``[S, twins, n]`` float32 of one piece ``[S, twins, groups, n]``."""
    parts = piece.shape[2] // weights.shape[-1]
    per_group = weights.repeat_interleave(parts, -1)
    if not _has_kernels(piece):
        return (per_group[:, None, None] @ piece).squeeze(2)
    from mtrl.agents.optim.gramian_kernels import weigh_rows

    out = torch.empty(*piece.shape[:2], piece.shape[3])
    weigh_rows(_bits(piece), per_group.numpy(), out.numpy())
    return out


def _bits(piece: Tensor) -> np.ndarray:
    bits: np.ndarray = piece.contiguous().view(torch.uint16).numpy()
    return bits


def _split(direction: Tensor, pieces: list[Tensor]) -> list[Tensor]:
    """Undo the concatenation of ``_jacobian``: ``[..., twins, n]`` of ``[..., P]`` for each piece."""
    shapes = [(piece.shape[1], piece.shape[3]) for piece in pieces]
    sizes = [twins * width for twins, width in shapes]
    parts = direction.split(sizes, -1)
    return [part.unflatten(-1, shape) for part, shape in zip(parts, shapes)]


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
