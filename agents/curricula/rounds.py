"""``Rounds`` runs a curriculum inside an agent: it counts rounds, collects statistics and holds the current plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtrl.agents.agent import EnvSpec
from mtrl.agents.curricula.base import (
    CoupledCurriculum,
    Curriculum,
    Plan,
    State,
    Statistics,
    Tasks,
    Turn,
    uniform_share,
)
from mtrl.agents.curricula.coupling import (
    Features,
    HeadPull,
    MemberPull,
    Params,
    equal_heads,
    geometry,
    member_pull,
    owned_agents,
    owned_heads,
)
from mtrl.agents.curricula.registry import CURRICULA
from mtrl.agents.curricula.uniform import Uniform
from mtrl.agents.data.arrays import to_tensor
from mtrl.agents.data.tracking import EpisodeTracker
from mtrl.agents.errors import AgentError
from mtrl.agents.networks.network import Network
from mtrl.agents.settings import Choice
from mtrl.agents.state import Mark
from mtrl.envs.specs import task_graph


@dataclass(init=False, eq=False)
class Rounds:
    """Runs one curriculum for one agent."""

    _curriculum: State
    _generator: torch.Generator
    _share: Tensor
    _coupled: bool
    _log: Annotated[dict[str, Tensor], Mark(varying=True, on_host=True)]
    _combinations: Tensor
    _loss: Tensor
    _updates: Tensor
    _counters: list[int]  # rounds begun; of the one under way, env steps of each task and turns
    _active: Annotated[Tensor | None, Mark(on_host=True)]
    _cycle: Annotated[Tensor | None, Mark(on_host=True)]
    _turn: Annotated[Turn | None, Mark(on_host=True)]

    def __init__(
        self,
        curriculum: Curriculum,
        tasks: Tasks,
        heads: str,
        networks: Mapping[str, Network],
        params: Params,
        seed: int,
        cycles: bool = False,
    ) -> None:
        """Check that the curriculum fits, and start before the first round.

        Args:
            heads: the agent's setting of that name.
            networks: layouts of the networks that a coupled curriculum couples.
            params: the agent's networks by the same names; their heads are made equal where a curriculum couples them.
            cycles: whether a round is of many updates, which go through ``Plan.cycle``.

        Raises:
            AgentError: the curriculum does not go with the agent's heads or with the tasks.
        """
        info = curriculum.info
        if heads not in info.heads:
            raise AgentError(
                f"curriculum: {info.name!r} does not fit heads={heads}; use heads={' or '.join(sorted(info.heads))}"
            )
        if info.couples and tasks.num_tasks < 2:
            raise AgentError(
                f"curriculum: {info.name!r} couples tasks; the suite has only {tasks.num_tasks}"
            )
        curriculum.check(tasks)
        self.curriculum = curriculum
        self.tasks = tasks
        self._separate = heads == "separate"
        self._cycles = cycles
        self._networks = networks
        self._curriculum = curriculum.init(tasks)
        # A stream of its own: what a curriculum draws does not shift the agent's numbers.
        self._generator = torch.Generator().manual_seed(seed)
        self._device = next(iter(params.values()))["params"].device
        self._counters = [0, 0, 0]
        self._turn = None
        self._pull: MemberPull | HeadPull | None = None
        self._combinations = torch.zeros(tasks.num_tasks, tasks.num_tasks, dtype=torch.float64)
        self._loss = torch.zeros(tasks.num_tasks, device=self._device)
        self._updates = torch.zeros(tasks.num_tasks, device=self._device)
        self._adopt(Plan(uniform_share(tasks.num_tasks)))
        self.derive()
        if info.couples and not self._separate:
            equal_heads(params, networks)
        self._origin: dict[str, Tensor] = {}
        if info.couples:
            # All agents start equal, so the first one's parameters are the origin of every displacement.
            owned = self._owned(params)
            self._origin = {name: value[:1].clone() for name, value in owned.items()}

    @property
    def plan(self) -> Plan:
        """Of the round under way."""
        return Plan(self._share, self._coupled, self._active, self._log, self._cycle)

    @property
    def due(self) -> bool:
        """Whether the next round is to begin before more is trained."""
        number, steps, _ = self._counters
        return number == 0 or steps >= self.curriculum.round_steps

    @property
    def coupled(self) -> bool:
        """Whether this round takes the agents one after the other."""
        return self.plan.coupled and self._separate

    @property
    def paused(self) -> NDArray[np.bool_] | None:
        """Whether each task pauses in this round, ``[T]``; None if the curriculum never pauses any."""
        if not self.curriculum.info.paces:
            return None
        if self._active is None:
            return np.zeros(self.tasks.num_tasks, np.bool_)
        return ~self._active.numpy()

    def wants_gramian(self, updates: int) -> bool:
        """Whether the coming decision, after ``updates`` gradient steps, looks at the Gramian."""
        return self.curriculum.wants_gramian(self._curriculum, updates)

    def statistics(
        self, episodes: EpisodeTracker, gramian: Tensor | None = None, updates: int = 0
    ) -> Statistics:
        """Statistics of each task at this moment, after ``updates`` gradient steps."""
        cpu = torch.device("cpu")
        # Copies, for the tracker goes on counting in place.
        success = to_tensor(episodes.recent_success, cpu).clone()
        score = to_tensor(episodes.recent_return, cpu).clone()
        count = to_tensor(episodes.episodes, cpu).clone()
        # A task without an update in this round has a loss of 0.
        loss = (self._loss / self._updates.clamp(min=1)).double().cpu()
        return Statistics(success, score, count, loss, gramian, updates)

    def begin(self, stats: Statistics, params: Params, features: Features) -> None:
        """Decide the next round.

        Args:
            stats: of the round that ended.
            features: gives each task's action distribution at common observations, ``[T, n, F]``; called if needed.
        """
        noise = torch.rand(
            self.curriculum.draws, generator=self._generator, dtype=torch.float64
        )
        plan, self._curriculum = self.curriculum.plan(
            stats, self._curriculum, noise, self.tasks
        )
        self._adopt(plan)
        self._counters = [self._counters[0] + 1, 0, 0]
        self._turn = None
        # The statistics of the round that ended are in the plan; a new mean begins.
        self._loss.zero_()
        self._updates.zero_()
        self.derive()
        if plan.coupled and not self._separate:
            self._couple_heads(params, features)

    def count(self, steps: int) -> None:
        """Account for ``steps`` env steps of each task."""
        self._counters[1] += steps

    def observe(self, critic_loss: Tensor, task: int | None = None) -> None:
        """Add the critic losses of one update to the round's mean: ``[1, T]``, or ``[1, 1]`` of one task."""
        if task is None:
            self._loss += critic_loss[0]
            self._updates += 1
        else:
            self._loss[task] += critic_loss[0, 0]
            self._updates[task] += 1

    def member(
        self, steps_ahead: float, params: Params, features: Features
    ) -> tuple[int, MemberPull]:
        """The task that trains in a coupled round, ``steps_ahead`` of the steps counted so far, and the pull on it."""
        count = self.tasks.num_tasks
        at = int((self._counters[1] + steps_ahead) * count / self.curriculum.round_steps)
        # Where a round runs over its steps, the last position lasts until it ends.
        position = min(at, count - 1)
        while self._counters[2] <= position:
            self.next_turn(params, features)
        return self.seat(params)

    def next_turn(self, params: Params, features: Features) -> None:
        """Move on to the next position of a coupled round."""
        assert isinstance(self.curriculum, CoupledCurriculum)
        view = geometry(self._owned(params), self._origin, features())
        self._turn, self._curriculum = self.curriculum.turn(view, self._curriculum, self.tasks)
        self._pull = None
        self._counters[2] += 1
        self._log = self._log | _in_float64(self.curriculum.log(self._curriculum))

    def seat(self, params: Params) -> tuple[int, MemberPull]:
        """The task that trains now, and the pull on it."""
        assert self._turn is not None
        # Formed once a turn, since the other agents do not train during it.
        if not isinstance(self._pull, MemberPull):
            self._pull = member_pull(self._turn, params, self._networks)
        return self._turn.task, self._pull

    @property
    def head_pull(self) -> HeadPull | None:
        """The pull on the heads of a shared network in a coupled round."""
        return self._pull if isinstance(self._pull, HeadPull) else None

    def _couple_heads(self, params: Params, features: Features) -> None:
        for _ in range(self.tasks.num_tasks):
            self.next_turn(params, features)
            assert self._turn is not None
            self._combinations[self._turn.task] = self._turn.combination
        self._make_head_pull()

    def _make_head_pull(self) -> None:
        assert self._turn is not None
        self._pull = HeadPull(
            self._combinations.to(self._device, torch.float32), self._turn.strength
        )

    def _owned(self, params: Params) -> dict[str, Tensor]:
        owned = owned_agents if self._separate else owned_heads
        return owned(params, self._networks)

    def _adopt(self, plan: Plan) -> None:
        """Set ``plan`` as the plan of the current round."""
        self._share, self._coupled, self._active = plan.share, plan.coupled, plan.active
        self._log = _in_float64(plan.log)
        self._cycle = plan.cycle if self._cycles else None
        if self._cycle is not None:
            self._share = self._cycle.mean(0)

    def derive(self) -> None:
        """Form the loss weights, and the pull of a turn on heads.

        The weights are ``[1, T]``, or ``[1, C, T]`` of updates in turn, or None where all are 1.
        """
        shares = self._share if self._cycle is None else self._cycle
        share = shares * self.tasks.num_tasks
        # No weights at all where shares are equal: that is plain training bit for bit.
        ones = torch.ones_like(share)
        even = bool(torch.allclose(share, ones, rtol=0, atol=1e-12))
        self.weights = None if even else share.to(self._device, torch.float32).unsqueeze(0)
        self._pull = None
        if self._turn is not None and not self._separate:
            self._make_head_pull()

    def metrics(self) -> dict[str, float]:
        """The decisions in force, keyed ``curriculum/…``; none where the shares are always equal."""
        if isinstance(self.curriculum, Uniform):
            return {}
        out = {"curriculum/round": float(self._counters[0])}
        shown = {"share": self._share} | self._log
        for name, value in shown.items():
            if value.dim() == 0:
                out[f"curriculum/{name}"] = float(value)
            elif value.dim() == 1:
                for task, number in zip(self.tasks.task_names, value):
                    out[f"curriculum/{name}/{task}"] = float(number)
        return out

    def images(self) -> dict[str, NDArray]:
        """Matrices ``[T, T]`` in [0, 1] to be shown, keyed ``curriculum/…``."""
        return {
            f"curriculum/{name}": v.clamp(0, 1).numpy()
            for name, v in self._log.items()
            if v.dim() == 2
        }


def _in_float64(log: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.double() for name, value in log.items()}


def tasks_of(spec: EnvSpec) -> Tasks:
    """The tasks of an environment, as curricula see them."""
    return Tasks(spec.task_names, torch.tensor(task_graph(spec.task_names, spec.builds_on)))


def make_rounds(
    curriculum: Choice,
    spec: EnvSpec,
    heads: str,
    networks: Mapping[str, Network],
    params: Params,
    seed: int,
    cycles: bool = False,
) -> Rounds:
    """``Rounds`` of the curriculum that a setting describes, for an environment of ``spec``; see there."""
    return Rounds(
        CURRICULA.make(curriculum),
        tasks_of(spec),
        heads,
        networks,
        params,
        seed,
        cycles,
    )
