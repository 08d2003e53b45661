"""CAMRL: asymmetric multi-task RL that switches between single-task and multi-task rounds (Huang et al., TPAMI 2023).

T agents start from one initialization. A single-task round trains them side by side, each on its own loss. A multi-task
round takes them one after the other: at every position the loss f of each waiting task's row of the transfer matrix B
is evaluated, the task of the smallest one has its row updated by Frank–Wolfe with all networks fixed, and is trained
with its row fixed, pulled toward the combination of all tasks' parameters that its column of B describes.

Three readings of the paper, since it leaves them open or they cannot work as printed:

* Parameter vectors are displacements from the common initialization. Distances between agents, and from convex
  combinations of agents, are the same as with the vectors themselves; without it the initialization, several times
  longer than what training adds, makes all agents look alike.
* The pull's combination is convex: transfers from the other tasks, scaled down where they sum to more than 1, and the
  remainder on the task itself. As printed, a task that receives nothing would be pulled to 0 until it has forgotten
  everything; ``combination=printed`` does that.
* Inner products are divided by their mean diagonal, so that term 1 does not depend on the size of the networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mtrl.agents.curricula.base import (
    CoupledCurriculum,
    CurriculumInfo,
    Geometry,
    Plan,
    State,
    Statistics,
    Tasks,
    Turn,
    require,
    return_gap,
    task_index,
    uniform_share,
)
from mtrl.agents.curricula.camrl.frank_wolfe import frank_wolfe
from mtrl.agents.curricula.camrl.indicator import indicator, moments, observe, standardized
from mtrl.agents.curricula.camrl.loss import NUM_TERMS, Shape, Situation, row_terms
from mtrl.agents.curricula.history import prefixed, under

SOURCE = "Huang et al., TPAMI 2023 (arXiv 2211.03352)"
FORGET = 0.05  # share of the newest terms in their running moments


@dataclass(frozen=True)
class CAMRL(CoupledCurriculum):
    """CAMRL with a whole network for each task."""

    warmup: int = 10
    """Rounds of single-task training at the start."""
    switch: bool = True
    """False makes every round after them multi-task (an ablation)."""
    a: float = 1000.0
    """Rounds over which the second term of the mode indicator decays."""
    b: float = 0.025
    """Decay of its third term with the mean standardized performance."""
    c: float = 2.0
    """Standard deviations beyond which a task counts in its first term."""
    mu1: float = 0.2
    """Weight of what a task sends in the row loss, see ``camrl_loss``."""
    mu2: float = 0.2
    """Weight of what its receivers lose in the row loss, see ``camrl_loss``."""
    sharpness: float = 200.0
    """Slope of the soft ranks."""
    lambda0: float = 1.0
    """Factor of the row loss's first term."""
    lambda1: float = 1.0
    """Factor of the distance to untrained tasks; 0 takes the term out."""
    lambda2: float = 1.0
    """Factor of the prior ordering; 0 takes the term out (an ablation)."""
    lambda3: float = 1.0
    """Factor of the ranks by loss; 0 takes the term out (an ablation)."""
    lambda4: float = 1.0
    """Factor of the ranks by similarity of the policies; 0 takes the term out (an ablation)."""
    pull: float = 0.1
    """Factor of the distance to the combination in the agents' losses."""
    combination: Literal["convex", "printed"] = "convex"
    """``convex`` or ``printed``, see the module's text."""
    measure: Literal["success", "return"] = "success"
    """What a task's loss l is: 1 − success rate, or 1 − return over the range of its returns so far."""
    weighting: Literal["variance", "learned", "fixed"] = "variance"
    """``variance`` divides each term by its running variance, at least ``floor``, and adds the log of their
    product; ``learned`` is ``½ exp(−2 s) f + s`` with s learned (rate ``learning_rate``); ``fixed`` is neither."""
    floor: float = 0.1
    """Least running variance that a term is divided by."""
    learning_rate: float = 0.01
    """Step size of the learned weights of the terms."""
    steps: int = 10
    """Frank–Wolfe steps."""
    prior: str = ""
    """Tasks of a given ordering, separated by slashes, first the one to receive most; may be empty."""

    info = CurriculumInfo(
        "camrl",
        SOURCE,
        heads=frozenset({"separate"}),
        couples=True,
        shares="equal",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        factors = [f"lambda{k}" for k in range(NUM_TERMS)]
        for name in ("warmup", "mu1", "mu2", "pull", *factors):
            require(self, getattr(self, name) >= 0, name, "at least 0")
        for name in ("a", "b", "c", "sharpness", "floor", "learning_rate"):
            require(
                self,
                getattr(self, name) > 0,
                name,
                "greater than 0",
            )
        require(self, self.steps >= 1, "steps", "at least 1")

    def check(self, tasks: Tasks) -> None:
        named = self._prior(tasks)
        distinct = len(set(named)) == len(named)
        require(
            self,
            distinct,
            "prior",
            "an ordering that names no task twice",
        )

    def _prior(self, tasks: Tasks) -> list[int]:
        """Indices of the tasks of the given ordering."""
        names = filter(None, self.prior.split("/"))
        return [task_index(name, tasks, "prior") for name in names]

    @property
    def draws(self) -> int:
        return 1

    def init(self, tasks: Tasks) -> State:
        count = tasks.num_tasks
        zeros = torch.zeros(count, dtype=torch.float64)
        terms = torch.zeros(NUM_TERMS, dtype=torch.float64)
        return {
            "round": torch.zeros((), dtype=torch.int64),
            "transfer": torch.eye(count, dtype=torch.float64),
            "trained": torch.zeros(count, dtype=torch.bool),
            "order": torch.arange(count),
            # Nothing has succeeded yet.
            "loss": zeros + 1,
            "low": zeros + torch.inf,
            "high": zeros - torch.inf,
            "term_mean": terms,
            "term_square": terms.clone(),
            "term_seen": torch.zeros((), dtype=torch.int64),
            "log_sigma": terms.clone(),
            **prefixed("performance.", moments(count)),
        }

    def plan(
        self, stats: Statistics, state: State, noise: Tensor, tasks: Tasks
    ) -> tuple[Plan, State]:
        number = int(state["round"])
        performance = under("performance.", state)
        z = standardized(performance, stats.episode_return)
        terms = indicator(z, number, self.a, self.b, self.c)
        chosen = not self.switch or float(noise[0]) < terms.value
        coupled = number >= self.warmup and chosen
        low = torch.minimum(state["low"], stats.episode_return)
        high = torch.maximum(state["high"], stats.episode_return)
        loss = (1 - stats.success).clamp(0, 1)
        if self.measure == "return":
            loss = return_gap(stats.episode_return, low, high)
        new = state | {
            "round": state["round"] + 1,
            "loss": loss,
            "low": low,
            "high": high,
            "trained": torch.zeros_like(state["trained"]),
        }
        # Counted only now: the indicator compares a performance with the rounds before it.
        new |= prefixed("performance.", observe(performance, stats.episode_return))
        shown = {
            "indicator": terms.value,
            "indicator_extremes": terms.extremes,
            "indicator_youth": terms.youth,
            "indicator_performance": terms.performance,
            "multi_task_mode": float(coupled),
        }
        log = {name: torch.tensor(value) for name, value in shown.items()}
        share = uniform_share(tasks.num_tasks)
        return Plan(share, coupled=coupled, log=log | self.log(new)), new

    def turn(self, geometry: Geometry, state: State, tasks: Tasks) -> tuple[Turn, State]:
        at = self._situation(geometry, state, tasks)
        # The order is found on the way: the waiting task of smallest loss comes next.
        waiting = torch.nonzero(~state["trained"]).flatten().tolist()
        shape = Shape(self.mu1, self.mu2, self.sharpness)
        terms = torch.stack([row_terms(at.transfer[task], task, at, shape) for task in waiting])
        new = state | self._watch(terms, state)
        weights, constant = self._weights(new)
        losses = terms @ weights + constant
        task = waiting[int(losses.argmin())]

        def row_loss(row: Tensor) -> Tensor:
            return row_terms(row, task, at, shape) @ weights

        row, _ = frank_wolfe(row_loss, at.transfer[task], self.steps)
        index = torch.tensor([task])
        position = int(state["trained"].sum())
        new["transfer"] = at.transfer.index_copy(0, index, row.unsqueeze(0))
        new["order"] = state["order"].index_fill(0, index, position)
        new["trained"] = state["trained"].index_fill(0, index, True)
        if self.weighting == "learned":
            new["log_sigma"] = self._learn(state["log_sigma"], row_terms(row, task, at, shape))
        combination = self._combination(new["transfer"], task)
        return Turn(task, combination, self.pull), new

    def log(self, state: State) -> dict[str, Tensor]:
        return {"transfer": state["transfer"], "order": state["order"].double()}

    def _situation(self, geometry: Geometry, state: State, tasks: Tasks) -> Situation:
        # In units of the mean diagonal, so that term 1 does not depend on the size of the networks.
        scale = geometry.products.diagonal().mean()
        products = geometry.products / torch.where(scale > 0, scale, 1.0)
        prior = torch.tensor(self._prior(tasks), dtype=torch.int64)
        return Situation(
            state["transfer"],
            state["trained"],
            state["loss"],
            products,
            geometry.similarity,
            prior,
        )

    def _watch(self, terms: Tensor, state: State) -> State:
        """Running moments of the terms ``[n, 5]`` over the waiting tasks."""
        first = state["term_seen"] == 0
        now = {
            "term_mean": terms.mean(0),
            "term_square": terms.square().mean(0),
        }
        new = {"term_seen": state["term_seen"] + 1}
        for name, value in now.items():
            before = state[name]
            moved = before + FORGET * (value - before)
            new[name] = torch.where(first, value, moved)
        return new

    def _weights(self, state: State) -> tuple[Tensor, Tensor]:
        """Factor of each term ``[5]``, and the constant of the log penalty."""
        lambdas = [getattr(self, f"lambda{k}") for k in range(NUM_TERMS)]
        factors = torch.tensor(lambdas, dtype=torch.float64)
        if self.weighting == "fixed":
            return factors, torch.zeros((), dtype=torch.float64)
        if self.weighting == "learned":
            log_sigma = state["log_sigma"]
            return factors * 0.5 * (-2 * log_sigma).exp(), log_sigma.sum()
        variance = state["term_square"] - state["term_mean"].square()
        # Without the floor a term that hardly varies would outweigh all others.
        variance = variance.clamp(min=self.floor)
        return factors / variance, variance.log().sum()

    def _learn(self, log_sigma: Tensor, terms: Tensor) -> Tensor:
        """A gradient step of ``Σ ½ exp(−2 s) f + s`` on s, kept within ±3."""
        slope = 1 - (-2 * log_sigma).exp() * terms
        moved = log_sigma - self.learning_rate * slope
        return moved.clamp(-3, 3)

    def _combination(self, transfer: Tensor, task: int) -> Tensor:
        """Weights ``[T]`` of all tasks' parameters in the combination that pulls ``task``."""
        # A copy: the entry of the task itself is changed.
        column = transfer[:, task].clone()
        if self.combination == "convex":
            column[task] = 0
            # Transfers that sum to less than 1 stay as they are.
            column = column / column.sum().clamp(min=1.0)
            column[task] = 1 - column.sum()
        return column


@dataclass(frozen=True)
class CAMRLShared(CAMRL):
    """CAMRL on one shared trunk: B couples the heads alone, so that fifty tasks fit in memory.

    All heads start equal. A multi-task round plays every position of the order at its start, and then trains all tasks
    together for the length of the round, each head pulled toward its combination.
    """

    info = CurriculumInfo(
        "camrl-shared",
        SOURCE + ", coupling heads only",
        heads=frozenset({"multi-head"}),
        couples=True,
        shares="equal",
    )
