"""Groups of tasks whose learning curves move together, trained one group at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl.agents.curricula.base import (
    Curriculum,
    CurriculumInfo,
    Plan,
    State,
    Statistics,
    Tasks,
    require,
    uniform_share,
)
from mtrl.agents.curricula.history import filled, history, push


@dataclass(frozen=True)
class TaskGrouping(Curriculum):
    """Clusters tasks by the correlation of their round-to-round changes in critic loss and return.

    For ``window`` rounds all tasks train together; then, and again every ``regroup`` rounds, average linkage on the
    correlation of the changes forms ``groups`` groups, which train in turn, a round each. Tasks outside the group of
    the round keep collecting, but their losses have weight 0.
    """

    groups: int = 2
    """Number of groups."""
    window: int = 10
    """Rounds whose changes are compared."""
    regroup: int = 20
    """Rounds between groupings."""

    info = CurriculumInfo(
        "task-grouping",
        "grouping by training dynamics; average linkage (Sokal & Michener 1958)",
        shares="groups",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, self.groups >= 1, "groups", "at least 1")
        require(self, self.window >= 3, "window", "at least 3")
        require(self, self.regroup >= 1, "regroup", "at least 1")

    def check(self, tasks: Tasks) -> None:
        require(
            self,
            self.groups <= tasks.num_tasks,
            "groups",
            f"at most the number of tasks, {tasks.num_tasks}",
        )

    def init(self, tasks: Tasks) -> State:
        counter = {
            "round": torch.zeros((), dtype=torch.int64),
            "group": torch.zeros(tasks.num_tasks, dtype=torch.int64),
        }
        return history(2 * tasks.num_tasks, self.window) | counter

    def plan(
        self, stats: Statistics, state: State, noise: Tensor, tasks: Tasks
    ) -> tuple[Plan, State]:
        number = int(state["round"])
        group = state["group"]
        count = tasks.num_tasks
        new = push(state, torch.cat([stats.loss, stats.episode_return]))
        rounds = filled(new)
        known = number - self.window
        # Until the window is full there is nothing to compare, and all tasks train.
        if known >= 0 and known % self.regroup == 0:
            # Loss and return stand side by side in the history, as one row of 2 T.
            changes = rounds.diff(dim=0).unflatten(1, (2, count))
            group = average_linkage(affinity(changes), self.groups)
        share = uniform_share(count)
        if known >= 0:
            active = (group == number % self.groups).double()
            share = active / active.sum()
        new |= {
            "round": state["round"] + 1,
            "group": group,
        }
        return Plan(share, log={"group": group.double()}), new


def affinity(changes: Tensor) -> Tensor:
    """Mean over signals of the correlation of tasks' changes ``[n, signals, T]``, ``[T, T]``; 0 where constant."""
    centered = changes - changes.mean(0)
    size = centered.square().sum(0).sqrt()
    safe_size = torch.where(size > 0, size, 1.0)
    unit = torch.where(size > 0, centered / safe_size, 0.0)
    return torch.einsum("nst,nsu->tu", unit, unit) / changes.shape[1]


def average_linkage(similarity: Tensor, groups: int) -> Tensor:
    """Group of each task, int64 ``[T]`` in 0 … groups − 1, numbered by their first members.

    Starting from single tasks, the two groups of the largest mean similarity are merged until ``groups`` are left.
    """
    clusters = [[task] for task in range(len(similarity))]
    table = similarity.tolist()
    while len(clusters) > groups:
        pairs = [(a, b) for b in range(len(clusters)) for a in range(b)]
        links = [_mean_link(table, clusters[a], clusters[b]) for a, b in pairs]
        # The first of equal links, so that the grouping does not depend on anything else.
        a, b = pairs[links.index(max(links))]
        clusters[a] += clusters.pop(b)
    out = torch.zeros(len(similarity), dtype=torch.int64)
    for index, members in enumerate(sorted(clusters, key=min)):
        out[members] = index
    return out


def _mean_link(table: list[list[float]], left: list[int], right: list[int]) -> float:
    links = [table[i][j] for i in left for j in right]
    return sum(links) / len(links)
