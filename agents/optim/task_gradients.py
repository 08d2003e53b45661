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
from mtrl.agents.networks.network import MLP, TASK_SCALE, OwnViews, Views, flatten_gradients

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
    """

    network: MLP
    aggregator: Aggregator
    num_tasks: int
    twins: int = 1
    track: bool = False
    diagnose: bool = False

    @property
    def is_mean(self) -> bool:
        """Whether one ordinary backward pass of the mean loss does."""
        return isinstance(self.aggregator, Mean) and not (self.track or self.diagnose)

    @property
    def losses_suffice(self) -> bool:
        """Whether weights are known before the backward pass, so that no task's gradient has to be formed."""
        info = self.aggregator.info
        return not (
            info.needs & {"gramian", "jacobian", "cross_gramian"}
            or info.direction_only
            or self.track
            or self.diagnose
        )

    @property
    def groups(self) -> int:
        """Groups of rows that get a gradient of their own: tasks, or halves of tasks for cross Gramians."""
        return self.num_tasks * (2 if "cross_gramian" in self.aggregator.info.needs else 1)

    @property
    def num_shared(self) -> int:
        """Parameters of one seed that all tasks share."""
        network = self.network
        own_heads = network.num_heads > 1
        return self.twins * (network.num_trunk_parameters if own_heads else network.num_parameters)

    def init(self, seeds: int, device: torch.device) -> State:
        """The aggregator's state, with a leading axis of seeds, and the averaged gradients where they are tracked."""
        state = self.aggregator.init(
            self.num_tasks, num_params=self.num_shared, batch_shape=(seeds,), device=device
        )
        if self.track:
            state["tracked"] = torch.zeros(seeds, self.num_tasks, self.num_shared, device=device)
        return state

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
        seeds, members = losses.shape[0], losses.shape[0] * self.twins
        weighted = losses if weights is None else losses * weights
        if self.is_mean:
            grads = torch.autograd.grad(weighted.mean(-1).sum(), list(leaves.values()))
            return flatten_gradients(grads), state, {}
        if self.losses_suffice:
            inputs = Inputs(losses=losses.detach(), success=success, noise=noise, step=step)
            solved, state = self.aggregator.weights(inputs, state)
            about = {"task_weight": solved.weights.float()}
            return flatten_gradients(self._weighted(weighted, solved.weights, leaves)), state, about
        grads = torch.autograd.grad(weighted.sum(), list(leaves.values()))
        shared = [g for g, name in zip(grads, leaves) if self._is_shared(name)]
        own = [g / self.num_tasks for g, name in zip(grads, leaves) if not self._is_shared(name)]
        pieces = [g.view(seeds, self.twins, self.groups, -1) for g in shared]
        pieces = [
            piece if _has_kernels(piece) else piece.float() for piece in pieces
        ]  # read twice: Gramian, and sum
        tracked = self._tracked(pieces, state, weights)
        inputs = self._inputs(pieces, losses.detach(), noise, success, step)
        metrics: dict[str, Tensor] = {}
        if isinstance(self.aggregator, FlatMinima):
            moved = self._move(self.aggregator, inputs, leaves, pieces)
            there = again(moved)
            metrics["sharpness"] = there.detach() - losses.detach()
            inputs = self._look(inputs, there if weights is None else there * weights, moved)
        if self.aggregator.info.direction_only:
            direction, state = self.aggregator.direction(inputs, state)
            combined = _split(direction.direction, pieces)
            metrics |= {
                "residual": direction.residual,
                "solve_failures": (~direction.converged).float(),
            }
        else:
            solved, state = self.aggregator.weights(inputs, state)
            combined = [_combine(piece, solved.weights) for piece in pieces]
            metrics |= {"residual": solved.residual, "solve_failures": (~solved.converged).float()}
            metrics["task_weight"] = solved.weights
        if inputs.gramian is not None or self.diagnose:
            metrics |= self._diagnostics(inputs.gramian, pieces, metrics.get("task_weight"))
        parts = [c.reshape(members, -1) for c in combined] + own
        return flatten_gradients(parts), state | tracked, {k: v.float() for k, v in metrics.items()}

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
                moved[name] = (
                    leaf.detach() + next(steps).transpose(1, 2).reshape(leaf.shape)
                ).requires_grad_()
        return moved

    def _look(self, inputs: Inputs, losses: Tensor, moved: OwnViews) -> Inputs:
        """``inputs`` with the gradients of ``losses`` at moved parameters."""
        leaves = [leaf for name, leaf in moved.items() if self._is_shared(name)]
        grads = torch.autograd.grad(losses.sum(), leaves)
        pieces = [grad.view(losses.shape[0], self.twins, self.groups, -1) for grad in grads]
        return replace(inputs, perturbed_jacobian=_jacobian(pieces))

    def _diagnostics(
        self, gramian: Tensor | None, pieces: list[Tensor], weights: Tensor | None
    ) -> dict[str, Tensor]:
        """Scalars ``[S]``, gains ``[S, T]`` and cosines ``[S, T, T]``; the last two and conditioning only if asked."""
        if gramian is None:
            parts = self.groups // self.num_tasks  # halves of tasks, if any
            gramian = _gramian([piece.float().unflatten(2, (-1, parts)).sum(3) for piece in pieces])
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
            return list(torch.autograd.grad((losses * weights).sum(), list(leaves.values())))
        leaves[TASK_SCALE].copy_(weights.repeat_interleave(self.twins, 0))
        params = {name: leaf for name, leaf in leaves.items() if name != TASK_SCALE}
        grads = zip(params, torch.autograd.grad(losses.sum(), list(params.values())))
        return [grad if self._is_shared(name) else grad / self.num_tasks for name, grad in grads]

    def _tracked(self, pieces: list[Tensor], state: State, weights: Tensor | None) -> State:
        """The averaged gradients with this update's; those of tasks that did not train stay as they are."""
        if not self.track:
            return {}
        rows = _jacobian(pieces)
        if rows.shape[1] != self.num_tasks:  # halves of tasks
            rows = rows.unflatten(1, (self.num_tasks, -1)).sum(2)
        if weights is None:
            return {"tracked": state["tracked"].lerp(rows, 1 - TRACK_DECAY)}
        trains = (weights > 0).unsqueeze(-1)
        own = rows / torch.where(trains, weights.unsqueeze(-1), 1.0)
        return {
            "tracked": torch.where(
                trains, state["tracked"].lerp(own, 1 - TRACK_DECAY), state["tracked"]
            )
        }

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
    return (
        piece.device.type == "cpu" and piece.dtype == torch.bfloat16 and piece.shape[2] <= MOST_ROWS
    )


def _jacobian(pieces: list[Tensor]) -> Tensor:
    """``[S, T, P]`` float32 of pieces ``[S, twins, T, n]``."""
    return torch.cat([piece.transpose(1, 2).flatten(2) for piece in pieces], -1).float()


def _gramian(pieces: list[Tensor], halves: bool = False) -> Tensor:
    """``Σ_pieces J Jᵀ`` ``[S, T, T]`` float32 of pieces ``[S, twins, T, n]``.

    With ``halves`` ``J₁ J₂ᵀ`` of pieces ``[S, twins, 2 T, n]``, whose rows alternate between the two.
    """
    shares = []
    for piece in pieces:
        if not _has_kernels(piece):
            left, right = (piece[:, :, ::2], piece[:, :, 1::2]) if halves else (piece, piece)
            shares.append((left @ right.mT).sum(1))
    narrow = [piece for piece in pieces if _has_kernels(piece)]
    if narrow:
        from mtrl.agents.optim.gramian_kernels import (
            add_products,
        )  # compiled code that only some methods need

        tasks = narrow[0].shape[2] // (2 if halves else 1)
        total = np.zeros((len(narrow[0]), tasks, tasks))
        for piece in narrow:
            add_products(_bits(piece), halves, total)
        shares.append(torch.from_numpy(total).float())
    return torch.stack(shares).sum(0)


def _combine(piece: Tensor, weights: Tensor) -> Tensor:
    """``Jᵀ w`` ``[S, twins, n]`` float32 of one piece ``[S, twins, groups, n]``."""
    per_group = weights.repeat_interleave(piece.shape[2] // weights.shape[-1], -1)
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
    sizes = [piece.shape[1] * piece.shape[3] for piece in pieces]
    return [
        d.unflatten(-1, (p.shape[1], p.shape[3]))
        for d, p in zip(direction.split(sizes, -1), pieces)
    ]


def tracked_gramian(states: list[State]) -> Tensor:
    """``[T, T]`` float64 on the CPU of one seed's averaged gradients, each network's part scaled to trace 1."""
    parts = []
    for state in states:
        rows = state["tracked"][0]
        products = (rows @ rows.T).double().cpu()
        trace = products.diagonal().sum()
        parts.append(products / torch.where(trace > 0, trace, 1.0))
    return torch.stack(parts).sum(0)
