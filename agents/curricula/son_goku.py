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
    """Colors the graph of interfering tasks and trains one color an update, in turn.

    Interference ``rho_ij = −cos(g_i, g_j)`` of averaged task gradients; an edge where ``rho_ij > tau``. At the first
    decision after ``recolor`` updates the graph is drawn and colored anew (Welsh–Powell). ``tau`` falls linearly from
    1, where no edge exists and all tasks train together, to its final value over ``anneal`` updates.

    MTSAC trains one color a round. MTPPO, whose rounds are rollouts, trains one color a minibatch: of any n minibatches
    in a row every task trains in at least ⌊n / colors⌋, which is the coverage the paper asks for.
    """

    round_steps: int = 1
    """Vector steps of one color for MTSAC; 1 in the paper."""
    recolor: int = 200
    """Updates between colorings."""
    tau: float = 0.0
    """Final threshold."""
    anneal: int = 2_000
    """Updates until tau is reached."""

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
            "recolored": torch.tensor(-self.recolor),
        }

    def wants_gramian(self, state: State, updates: int) -> bool:
        return updates - int(state["recolored"]) >= self.recolor

    def threshold(self, number: int) -> float:
        """tau after ``number`` updates."""
        return 1 + (self.tau - 1) * min(number / self.anneal, 1.0)

    def plan(
        self, stats: Statistics, state: State, noise: Tensor, tasks: Tasks
    ) -> tuple[Plan, State]:
        number = int(state["round"])
        color = state["color"]
        recolored = state["recolored"]
        if self.wants_gramian(state, stats.updates) and stats.gramian is not None:
            graph = interference_graph(stats.gramian, self.threshold(stats.updates))
            color = welsh_powell(graph)
            recolored = torch.tensor(stats.updates)
        # With one color, as before the first Gramian, all tasks train together.
        colors = int(color.max()) + 1
        groups = (color == torch.arange(colors).unsqueeze(1)).double()
        shares = groups / groups.sum(1, keepdim=True)
        log = {
            "color": color.double(),
            "colors": torch.tensor(float(colors)),
            "tau": torch.tensor(self.threshold(stats.updates)),
        }
        new = {
            "round": state["round"] + 1,
            "color": color,
            "recolored": recolored,
        }
        # The cycle goes on where that of the last round ended.
        cycle = None if colors == 1 else shares.roll(-(stats.updates % colors), 0)
        return Plan(shares[number % colors], log=log, cycle=cycle), new


def interference_graph(gramian: Tensor, tau: float) -> Tensor:
    """Bool ``[T, T]``: pairs of different tasks with ``−cos > tau``."""
    edges = -cosines(gramian) > tau
    return edges & ~torch.eye(len(edges), dtype=torch.bool)
