"""A multi-task network ``encoder → body → memory → heads`` as pure functions of one flat parameter tensor.

The forward pass takes task-major inputs ``[S, T, b, in]``, when acting too. Everything before the heads computes in
``dtype`` (bfloat16 where the machine multiplies it fast); the heads, and so every Q value and every action, are
computed in float32. Who reduces tasks, couples them or rescales outputs asks here which parameters that concerns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, overload

import torch
from torch import Tensor

from mtrl.agents.members import task_code, with_task_code
from mtrl.agents.networks.bodies.body import Body, Look, Step, Stepped
from mtrl.agents.networks.encoder import Encoder
from mtrl.agents.networks.heads import Heads, Scale
from mtrl.agents.networks.layers import Size
from mtrl.agents.networks.linear import of_members
from mtrl.agents.networks.memory import GRU, Recall
from mtrl.agents.networks.parameters import Kind, Layout, Parameter, Params
from mtrl.agents.networks.shown import Matrices


@dataclass(frozen=True)
class Network:
    """A network of one agent, for any number of members.

    Attributes:
        size: of the body, with the encoder's features as its inputs.
        follows: whether another network's losses alone train what is tied to it as ``critic``: an actor's network.
    """

    encoder: Encoder
    body: Body
    size: Size
    heads: Heads
    memory: GRU | None = None
    follows: bool = False

    def noise_shape(self, rows: Sequence[int]) -> tuple[int, ...] | None:
        """Shape of the random numbers that the body draws for an array of rows; None where it draws none."""
        return (*rows, self.body.noise_size) if self.body.noise_size else None

    @property
    def num_redrawn(self) -> int:
        """Random numbers of each task that ``after_step`` takes."""
        return self.body.redraw_size(self.size)

    # Parameters

    @cached_property
    def layout(self) -> Layout:
        """Every parameter's kind and place in the flat tensor."""
        parts: dict[str, dict[str, Parameter]] = {
            "encoder": self.encoder.parameters(),
            "body": self.body.parameters(self.size),
            "memory": {} if self.memory is None else self.memory.parameters(),
            "head": self.heads.parameters(),
        }
        declared = {}
        for part, parameters in parts.items():
            for name, parameter in parameters.items():
                if part == "encoder" and self.body.encoder_tied is not None:
                    parameter = replace(parameter, tied=self.body.encoder_tied)
                if self.follows and parameter.tied == "critic":
                    kept: Kind = "fixed" if parameter.kind == "owned" else "frozen"
                    parameter = replace(parameter, kind=kept)
                declared[f"{part}.{name}"] = parameter
        return Layout(declared, self.size.num_tasks)

    @property
    def num_parameters(self) -> int:
        return self.layout.num_parameters

    @overload
    def trained(self, flat: Tensor) -> Tensor: ...
    @overload
    def trained(self, flat: None) -> None: ...
    def trained(self, flat: Tensor | None) -> Tensor | None:
        """The part of ``flat`` ``[..., P]`` that is not frozen, a view; None of None."""
        if flat is None:
            return None
        return flat[..., : self.num_parameters - self.layout.num_frozen]

    @property
    def out_dim(self) -> int:
        return self.heads.out_dim

    @cached_property
    def owns_heads_only(self) -> bool:
        """Whether all tasks share everything before the heads."""
        return all(name.startswith("head.") for name in self.layout.owned)

    @cached_property
    def treats_tasks_alike(self) -> bool:
        """Whether a row has the same features in all tasks."""
        differ = [name for name in self.layout.by_task if not name.startswith("head.")]
        return not differ and not self.body.wants_one_hot

    @cached_property
    def hidden_weights(self) -> list[str]:
        """Names of the shared input weights ``[..., out, in]`` of neurons before the heads, where drawn at random."""
        names = []
        for name, parameter in self.layout.shared.items():
            # Biases, gains and weights that start at zero are constants.
            is_drawn = callable(parameter.init) and len(parameter.shape) > 1
            if is_drawn and not name.startswith("head."):
                names.append(name)
        return names

    def init(self, members: int, generator: torch.Generator, head_scale: float = 1.0) -> Tensor:
        """Initial parameters ``[members, P]`` float32 on the generator's device.

        Args:
            head_scale: factor on the heads' weights.
        """
        heads = replace(self.heads, init_scale=head_scale)
        return replace(self, heads=heads).layout.init(members, generator)

    def views(self, flat: Tensor, dtype: torch.dtype) -> Params:
        """Named views of ``flat`` ``[K, P]``, see ``Layout.views``."""
        return self.layout.views(flat, dtype)

    def constants(self, flat: Tensor, dtype: torch.dtype) -> Params:
        """``views`` for acting until ``flat`` changes, without gradients, with what encoder and body compute ahead."""
        params = self.views(flat.detach(), dtype)
        named = {
            name: view for name, view in params.named.items() if not name.startswith("body.")
        }
        for name, view in self.body.constants(params.of("body")).items():
            named[f"body.{name}"] = view
        return Params(named, tables=self.encoder.tables(params.of("encoder")))

    def owned(self, flat: Tensor) -> dict[str, Tensor]:
        """Views ``[K, T, ...]`` of what each task owns, of parameters ``[..., P]`` with all leading axes as members."""
        members = flat.view(-1, flat.shape[-1])
        named = self.views(members, flat.dtype).named
        return {name: named[name] for name in self.layout.owned}

    def rescale_outputs(self, flat: Tensor, old: Scale, new: Scale) -> None:
        """Change the heads of ``flat`` ``[K, P]`` in place: outputs stand for the same on the new scale."""
        # Float32 views share memory with ``flat``.
        self.heads.rescale(self.views(flat, flat.dtype).of("head"), old, new)

    # Changes between steps

    @torch.no_grad()
    def after_step(
        self,
        flat: Tensor,
        masked: Tensor | None,
        noise: Tensor | None,
        members: Sequence[int] | None = None,
        tied: bool = False,
    ) -> None:
        """Correct ``flat`` ``[K, P]`` in place as the body does after an optimizer step.

        Args:
            masked, noise: as of ``Stepped``.
            members: those that took the step; None for all.
            tied: whether to correct what is tied to another network, or all else.
        """
        if not (self.body.corrects_steps or self.body.corrects_heads):
            return
        params = self.views(flat, flat.dtype)
        step = Stepped(self.size, masked, noise)
        views = params.of("body")
        corrected = []
        if self.body.corrects_steps:
            for name, value in self.body.after_step(views, step).items():
                if (self.layout.all[f"body.{name}"].tied is not None) is tied:
                    corrected.append((views[name], value))
        if self.body.corrects_heads and not tied:
            weight = params.of("head")["weight"]
            corrected.append((weight, self.body.heads_after_step(weight, step)))
        every = range(len(flat)) if members is None else members
        for view, value in corrected:
            for member in every:
                view[member].copy_(value[member])

    @torch.no_grad()
    def begin_phase(self, flat: Tensor, fresh: Tensor, number: int) -> Tensor:
        """Change ``flat`` ``[K, P]`` in place as the body does at the beginning of a phase.

        Args:
            fresh: new initial values, of the shape of ``flat``.

        Returns:
            Which parameters train in the phase, bool ``[P]``.
        """
        views = self.views(flat, flat.dtype).of("body")
        anew = self.views(fresh, flat.dtype).of("body")
        phase = self.body.on_phase(views, anew, number, self.size)
        for name, value in phase.values.items():
            views[name].copy_(value)
        trains = torch.ones(self.num_parameters, dtype=torch.bool, device=flat.device)
        for name in phase.frozen:
            trains[self.layout.places[f"body.{name}"]] = False
        return trains

    # Inputs

    def look(self, x: Tensor) -> Any:
        """Precompute the part of the encoding that actor and critic share; a pass takes ``x`` or this result."""
        return self.encoder.look(x)

    def take(self, x: Any, index: Tensor) -> Any:
        """The rows at ``index`` ``[S, T, m]`` of the result of ``look`` for ``[S, T, n, in]``."""
        return self.encoder.take(x, index)

    def split(self, x: Any, size: int) -> Sequence[Any]:
        """Split the result of ``look`` for ``[S, T, n, in]`` into parts of at most ``size`` rows a task."""
        return self.encoder.split(x, size)

    # Passes

    def forward(
        self,
        params: Params,
        x: Any,
        recall: Recall | None = None,
        noise: Tensor | None = None,
        share: float = 0.0,
        code: Tensor | None = None,
    ) -> Tensor:
        """Own-head outputs ``[K, T, b, out]`` float32 of task-major inputs ``[S, T, b, in]``.

        ``K`` is a multiple of ``S``; consecutive members share an input (twin critics of one seed).

        Args:
            x: inputs, or the result of ``look`` for them.
            recall: for networks with memory.
            noise, share: as of ``Step``.
            code: of the task of each row ``[S, T, b, n]``, for bodies that want it; by default that of its place in T.
        """
        if params.split:
            return self._forward_alone(params, self.encoder.rows(x), recall, noise, share)
        hidden, inverse = self._hidden(params, x, recall, noise, share, code)
        if inverse is None:
            return self.outputs(params, hidden)
        if params.scale is not None:
            return self.outputs(params, _spread(hidden, inverse))
        # The heads can read the features of distinct rows, without repetitions.
        from mtrl.agents.networks.spread import SpreadHeads

        head = params.of("head")
        out: Tensor = SpreadHeads.apply(
            hidden.squeeze(1), inverse, head["weight"], head["bias"]
        )
        return out

    def features(
        self,
        params: Params,
        x: Any,
        recall: Recall | None = None,
        noise: Tensor | None = None,
        share: float = 0.0,
    ) -> Tensor:
        """What the heads read, ``[K, T, b, F]`` float32; with memory its states. Arguments as of ``forward``."""
        hidden, inverse = self._hidden(params, x, recall, noise, share)
        return hidden if inverse is None else _spread(hidden, inverse)

    def outputs(self, params: Params, hidden: Tensor) -> Tensor:
        """Own-head outputs ``[K, T, b, out]`` of features ``[K, T, b, F]``."""
        head = params.of("head")
        needs_gradient = torch.is_grad_enabled() or params.scale is not None
        if not hidden.is_cpu or needs_gradient or not self.encoder.compiled:
            return self.heads.outputs(head, hidden, params.scale)
        from mtrl.agents.networks.spread import spread_heads

        # The compiled loop is several times faster for few rows a head.
        tasks, batch = hidden.shape[1:3]
        every = torch.arange(tasks * batch).view(tasks, batch)
        return spread_heads(hidden.flatten(1, 2), every, head["weight"], head["bias"])

    def extra_of(
        self, x: Any, noise: Tensor | None, share: float
    ) -> Callable[[Params], Tensor] | None:
        """Computes the body's loss that mixes tasks, ``[K]``; None where it has none. Arguments as of ``forward``."""
        if not self.body.mixes_tasks:
            return None

        def extra(params: Params) -> Tensor:
            encoded, inverse = self.encoder.encode(params.of("encoder"), x, params.tables)
            if inverse is not None:
                encoded = _spread(encoded, inverse)
            encoded = with_task_code(encoded, self.body.wants_one_hot)
            return self.body.extra(params.of("body"), encoded, Step(self.size, noise, share))

        return extra

    @torch.no_grad()
    def shows(self, flat: Tensor, x: Tensor, share: float) -> Matrices:
        """What the body shows of itself with parameters ``[K, P]`` at inputs ``[K, T, b, in]``, see ``Body.shows``."""
        params = self.views(flat, torch.float32)
        encoded, inverse = self.encoder.encode(params.of("encoder"), self.look(x))
        if inverse is not None:
            encoded = _spread(encoded, inverse)
        encoded = with_task_code(encoded, self.body.wants_one_hot)
        step = Step(self.size, None, share)
        heads = params.of("head")["weight"]
        look = Look(params.of("body"), encoded, step, heads)
        return self.body.shows(look)

    def _hidden(
        self,
        params: Params,
        x: Any,
        recall: Recall | None,
        noise: Tensor | None,
        share: float,
        code: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Features ``[K, T, b, F]``, or ``[K, 1, r, F]`` of rows without repetitions and each observation's row."""
        encoded, inverse = self.encoder.encode(params.of("encoder"), x, params.tables)
        # A row of several tasks has one encoding, but features of its own in each of them.
        if inverse is not None and not (self.treats_tasks_alike and noise is None):
            encoded = _spread(encoded, inverse)
            inverse = None
        encoded = with_task_code(encoded, self.body.wants_one_hot, code)
        hidden = self.body.features(params.of("body"), encoded, Step(self.size, noise, share))
        if self.memory is None:
            return hidden, inverse
        # Rows that repeat are remembered with different states.
        if inverse is not None:
            hidden = _spread(hidden, inverse)
        return self.memory.states(params.of("memory"), hidden, recall), None

    def _forward_alone(
        self,
        params: Params,
        x: Tensor,
        recall: Recall | None,
        noise: Tensor | None,
        share: float,
    ) -> Tensor:
        """``forward`` with the tasks as members, each with parameters of its own."""
        first = next(iter(params.named.values()))
        members, tasks = first.shape[:2]
        twins = members // x.shape[0]

        def alone(rows: Tensor) -> Tensor:
            """Rows ``[S, T, ...]`` as ``[K T, 1, ...]``."""
            return of_members(rows, len(rows) * twins).flatten(0, 1).unsqueeze(1)

        named = {}
        for name, view in params.named.items():
            every = view.expand(-1, tasks, *view.shape[2:])
            named[name] = every.flatten(0, 1).unsqueeze(1)
        if recall is not None:
            state = recall.state.flatten(0, 1).unsqueeze(1)
            recall = Recall(state, alone(recall.start))
        drawn = None if noise is None else alone(noise)
        code = None
        if self.body.wants_one_hot:
            code = alone(task_code(x).to(torch.float32))
        out = self.forward(Params(named), alone(x), recall, drawn, share, code)
        return out.view(members, tasks, *out.shape[2:])


def _spread(rows: Tensor, inverse: Tensor) -> Tensor:
    """Features ``[K, 1, r, F]`` of distinct rows written out for every observation, ``[K, T, b, F]``."""
    from mtrl.agents.networks.spread import Spread

    # Gradients of repeated rows are summed in float32.
    every: Tensor = Spread.apply(rows.squeeze(1).float(), inverse.flatten())
    return every.unflatten(1, inverse.shape)
