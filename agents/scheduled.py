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
from mtrl.agents.networks.network import Network
from mtrl.agents.optim.task_gradients import Reduction, tracked_gramian
from mtrl.agents.settings import Choice

PROBES = 8  # observations of each task at which policies are compared


class ScheduledAgent(Agent):
    """An agent whose tasks a curriculum schedules; ``actor`` and ``critic`` are what a curriculum may couple.

    Attributes:
        state: networks and optimizers, with a leading axis of seeds, or of tasks where each has networks of its own.
    """

    settings: Any
    state: Networks
    _separate: bool
    _rounds: Rounds
    _meter: Meter
    _explore: torch.Generator
    _episodes: EpisodeTracker | None
    _budget: int | None = None
    _saved_share = 0.0

    def begin(self, total_env_steps: int) -> None:
        self._budget = total_env_steps

    @property
    def share_done(self) -> float:
        """Share of training done, from 0 to 1: of the end that ``begin`` named, or as it was saved."""
        if self._budget is None:
            return self._saved_share
        return min(1.0, self.env_steps / self._budget)

    @property
    def _num_copies(self) -> int:
        """Copies, in the networks, of what actor and critic have in common: all but one of three."""
        ties = self.settings.ties
        return 0 if ties is None else 2 * ties.num_parameters * len(self.state["actor"]["params"])

    def network_noise(self, network: Network, rows: Tensor) -> Tensor | None:
        """Uniform numbers of each of ``rows`` ``[S, T, b, D]`` for acting; None where the body draws none."""
        size = network.body.noise_size
        if not size:
            return None
        # On the CPU, so that exploration does not depend on the device.
        drawn = torch.rand((*rows.shape[:3], size), generator=self._explore)
        return drawn.to(self.device)

    def _start_rounds(
        self, curriculum: Choice, heads: str, actor: Network, critic: Network
    ) -> None:
        """Get ready for the first round; to be called when the networks are there."""
        networks = {"actor": actor, "critic": critic}
        self._rounds = make_rounds(
            curriculum, self.spec, heads, networks, self.state, stream_seed(self.seed, 4)
        )

    def _begin_round(self, features: Features) -> None:
        """Let the curriculum decide, by what is known of each task now."""
        assert self._episodes is not None
        gramian = None
        if self._rounds.wants_gramian:
            gramian = tracked_gramian([self.state["actor_tasks"], self.state["critic_tasks"]])
        self._rounds.begin(self._rounds.statistics(self._episodes, gramian), self.state, features)

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
