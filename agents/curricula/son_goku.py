"""SON-GOKU: tasks whose gradients interfere train at different times, in groups found by graph coloring."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl.agents.aggregators.diagnostics import cosines
from mtrl.agents.curricula.base import (
    Curriculum,
    CurriculumInfo,
    Plan,
    State,
    Statistics,
    Tasks,
    require,
)
from mtrl.agents.curricula.coloring import welsh_powell


@dataclass(frozen=True)
class SonGoku(Curriculum):
    """Colors the graph of interfering tasks and trains one color a round, in turn.

    Interference ``rho_ij = −cos(g_i, g_j)`` of averaged task gradients; an edge where ``rho_ij > tau``. Every
    ``recolor`` rounds the graph is drawn and colored anew (Welsh–Powell); ``tau`` falls linearly from 1, where no edge
    exists and all tasks train together, to its final value over ``anneal`` rounds.
    """

    round_steps: int = 1
    """Vector steps of one color; 1 in the paper."""
    recolor: int = 200
    """Rounds between colorings."""
    tau: float = 0.0
    """Final threshold."""
    anneal: int = 2_000
    """Rounds until tau is reached."""

    info = CurriculumInfo(
        "son-goku",
        "SON-GOKU: gradient interference scheduled by graph coloring (Welsh & Powell 1967)",
        gramian=True,
        shares="groups",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, self.recolor >= 1, "recolor", "at least 1")
        require(self, self.anneal >= 1, "anneal", "at least 1")
        require(self, -1 <= self.tau <= 1, "tau", "in [-1, 1]")

    def init(self, tasks: Tasks) -> State:
        return {
            "round": torch.zeros((), dtype=torch.int64),
            "color": torch.zeros(tasks.num_tasks, dtype=torch.int64),
        }

    def wants_gramian(self, state: State) -> bool:
        return int(state["round"]) % self.recolor == 0

    def threshold(self, number: int) -> float:
        """tau in round ``number``."""
        return 1 + (self.tau - 1) * min(number / self.anneal, 1.0)

    def plan(
        self, stats: Statistics, state: State, noise: Tensor, tasks: Tasks
    ) -> tuple[Plan, State]:
        number = int(state["round"])
        color = state["color"]
        if self.wants_gramian(state) and stats.gramian is not None:
            graph = interference_graph(stats.gramian, self.threshold(number))
            color = welsh_powell(graph)
        # With one color, as before the first Gramian, all tasks train together.
        colors = int(color.max()) + 1
        active = (color == number % colors).double()
        log = {
            "color": color.double(),
            "colors": torch.tensor(float(colors)),
            "tau": torch.tensor(self.threshold(number)),
        }
        new = {
            "round": state["round"] + 1,
            "color": color,
        }
        return Plan(active / active.sum(), log=log), new


def interference_graph(gramian: Tensor, tau: float) -> Tensor:
    """Bool ``[T, T]``: pairs of different tasks with ``−cos > tau``."""
    edges = -cosines(gramian) > tau
    return edges & ~torch.eye(len(edges), dtype=torch.bool)
