"""What agents have in common under a curriculum: the rounds, their statistics, and tasks with networks of their own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtrl.agents.agent import Agent
from mtrl.agents.common import Networks, check_networks_finite, stream_seed
from mtrl.agents.curricula.coupling import Features
from mtrl.agents.curricula.rounds import Rounds, make_rounds
from mtrl.agents.data.tracking import EpisodeTracker, Meter
from mtrl.agents.networks.network import MLP
from mtrl.agents.optim.task_gradients import Reduction, tracked_gramian
from mtrl.agents.settings import Choice

PROBES = 8  # observations of each task at which policies are compared


class ScheduledAgent(Agent):
    """An agent whose tasks a curriculum schedules; ``actor`` and ``critic`` are what a curriculum may couple.

    Attributes:
        state: networks and optimizers, with a leading axis of seeds, or of tasks where each has networks of its own.
    """

    config: Any
    state: Networks
    _separate: bool
    _rounds: Rounds
    _meter: Meter
    _episodes: EpisodeTracker | None

    def _start_rounds(
        self, curriculum: Choice, heads: str, actor: MLP, critic: MLP, cycles: bool = False
    ) -> None:
        """Get ready for the first round; to be called when the networks are there.

        Args:
            cycles: whether a round is of many updates.
        """
        networks = {"actor": actor, "critic": critic}
        self._rounds = make_rounds(
            curriculum, self.spec, heads, networks, self.state, stream_seed(self.seed, 4), cycles
        )

    def _begin_round(self, features: Features) -> None:
        """Let the curriculum decide, by what is known of each task now."""
        assert self._episodes is not None
        gramian = None
        updates = self.gradient_steps
        if self._rounds.wants_gramian(updates):
            gramian = tracked_gramian([self.state["actor_tasks"], self.state["critic_tasks"]])
        stats = self._rounds.statistics(self._episodes, gramian, updates)
        self._rounds.begin(stats, self.state, features)

    def recent_success(self, reductions: Sequence[Reduction]) -> Tensor | None:
        """Success rate per task ``[1, T]`` of recent training episodes, where an aggregator looks at it."""
        if not any("success" in reduction.aggregator.info.needs for reduction in reductions):
            return None
        rate = (
            np.zeros(self.spec.num_tasks)
            if self._episodes is None
            else self._episodes.recent_success
        )
        return torch.from_numpy(rate).to(self.device, torch.float32).unsqueeze(0)

    @abstractmethod
    def most_updates(self, total_env_steps: int) -> int:
        """The gradient steps of a run until ``total_env_steps``, or more than it has."""

    def cautions(self, total_env_steps: int) -> list[str]:
        most = self.most_updates(total_env_steps)
        found = []
        for aggregator in self.config.aggregators:
            info = aggregator.info
            if info.warmup >= most:
                found.append(
                    f"aggregator: {info.name!r} only measures for its first {info.warmup:,} updates, and this run has "
                    f"at most {most:,}; train longer or shorten its epochs"
                )
        return list(dict.fromkeys(found))

    @abstractmethod
    def stack_key(self) -> Hashable | None:
        """Equal for agents whose next updates can be one call; None where this one can only update alone."""

    def metrics(self) -> dict[str, float]:
        self.check_finite()  # a fused ReLU turns NaN into 0, so losses alone could hide one
        episodes = self._episodes.drain() if self._episodes is not None else {}
        return self._meter.drain() | episodes | self._rounds.metrics()

    def check_finite(self) -> None:
        check_networks_finite(self.state, self.gradient_steps)

    def images(self) -> dict[str, NDArray]:
        return self._rounds.images() | self._meter.images
