"""What agents have in common whose tasks a curriculum schedules: set-up, prediction, rounds and their statistics."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtrl.agents.agent import Agent, State
from mtrl.agents.aggregators.wrappers import skips_solves
from mtrl.agents.common import (
    Networks,
    finite_networks,
    obs_rows,
    refuse_infinite,
    stream_seed,
    task_ids,
)
from mtrl.agents.curricula import CURRICULA
from mtrl.agents.curricula.coupling import Features
from mtrl.agents.curricula.rounds import Rounds, make_rounds, tasks_of
from mtrl.agents.data.arrays import Array, device_of, placed, to_tensor
from mtrl.agents.data.tracking import EpisodeTracker, Meter
from mtrl.agents.data.transfer import fetch
from mtrl.agents.members import per_task
from mtrl.agents.networks.network import Network
from mtrl.agents.networks.shown import as_image, image_names
from mtrl.agents.optim.graphs import Graph, Recorder, record_on_gpu, uses_graphs
from mtrl.agents.optim.phases import Event, begin_phase, events_of, phase_masks
from mtrl.agents.optim.task_gradients import Reduction, tracked_gramian
from mtrl.agents.policies import ActorCriticPolicy, RatioPolicy
from mtrl.agents.state import Mark
from mtrl.envs.specs import EnvSpec
from mtrl.envs.vector import TaskVectorEnv

Settings = TypeVar("Settings", bound=Any)
EXPERIENCE = Mark(experience=True)
PHASES = 100  # added to a phase's number, this is the random stream of its new initial values
PROBES = 8  # observations of each task at which policies are compared


class ActorOutputs(NamedTuple):
    """What a policy needs of the actor for rows of any tasks.

    Attributes:
        output: ``[n, O]``.
        log_std: ``[n, A]``, where standard deviations stand apart from the network.
        memory: ``[n, H]``, where the network has one.
    """

    output: Tensor
    log_std: Tensor | None = None
    memory: Tensor | None = None


class ScheduledAgent(Agent):
    """An agent whose tasks a curriculum schedules; ``actor`` and ``critic`` are what a curriculum may couple.

    Attributes:
        settings: of the update: layouts of the networks, reductions of their tasks, the policy, and more.
        cycles: whether a round is of many updates, which can go through ``Plan.cycle``.
        actor, critic: layouts of the networks whose parameters ``state`` holds.
        policy: gives actions from the actor's outputs.
        state: networks and optimizers, with a leading axis of seeds, or of tasks where each has networks of its own.
        config: settings of the algorithm, with those that stepping, schedules and prediction read.
    """

    cycles: ClassVar[bool] = False
    records_updates: ClassVar[bool] = True
    config: Any
    settings: Any
    actor: Network
    critic: Network
    policy: ActorCriticPolicy | RatioPolicy
    state: Networks
    _explore: torch.Generator
    _rounds: Rounds
    _episodes: EpisodeTracker | None
    _obs: Array | None
    _planned: int | None
    _phase: int | None

    def __init__(
        self,
        env: TaskVectorEnv | EnvSpec,
        config: Any = None,
        *,
        seed: int = 0,
        device: str | torch.device = "auto",
        **overrides: Any,
    ) -> None:
        super().__init__(env, config, seed=seed, device=device, **overrides)
        self._separate = self.config.heads == "separate"
        self._lead = (self.spec.num_tasks, 1) if self._separate else (1, self.spec.num_tasks)
        self._meter = Meter(self.spec.task_names)
        self._budget: int | None = None
        self._planned = None
        self._build()
        self._recorded: Graph | None = None
        self._success: tuple[NDArray, Tensor] | None = None
        self.actor, self.critic = self.settings.actor, self.settings.critic
        self.policy = self.settings.policy
        if uses_graphs(self.graph, self.device, self.graph_obstacle):
            self.record(record_on_gpu)
        networks = {"actor": self.actor, "critic": self.critic}
        self.state = self._fresh(self.seed)
        phase_masks(networks, self.state)
        self._events = events_of(networks, self.resets)
        self._phase = 0 if self._events else None
        self._rounds = make_rounds(
            self.config.curriculum,
            self.spec,
            self.config.heads,
            networks,
            self.state,
            self._stream(4),
            self.cycles,
        )
        self._begin_data()

    @property
    def graph_obstacle(self) -> str | None:
        if self._separate:
            return "with heads=separate every task has an update of its own"
        if self._uses_share:
            return "it depends on the share of training done"
        if self._alternates:
            return "its aggregator alternates with averaging"
        curriculum = CURRICULA.make(self.config.curriculum).info
        if curriculum.couples:
            return f"curriculum {curriculum.name!r} couples the parameters of tasks"
        if any(skips_solves(aggregator) for aggregator in self.config.aggregators):
            return "its aggregator solves only every k-th update"
        return None

    def record(self, recorder: Recorder) -> None:
        """Record updates from now on."""
        self._recorded = Graph(self._recordable(), recorder)

    @abstractmethod
    def _recordable(self) -> Callable[[Networks, Any], Any]:
        """The part of an update that can be recorded, as a function of tensors alone."""

    def set_env(self, env: TaskVectorEnv) -> None:
        super().set_env(env)
        self._rounds.tasks = tasks_of(self.spec)

    def begin(self, total_env_steps: int) -> None:
        self._budget = self._planned = total_env_steps

    @property
    def share_done(self) -> float:
        """Share of training done, from 0 to 1: of the end that ``begin`` named, also before the agent was saved."""
        return 0.0 if self._planned is None else min(1.0, self.env_steps / self._planned)

    def _settings_now(self, settings: Settings) -> Settings:
        """Settings of an update, with the share of training done where a body depends on it."""
        if not self._uses_share:
            return settings
        now: Settings = replace(settings, share=self._share_of_update)
        return now

    @property
    def _share_of_update(self) -> float:
        """The share of training that an update's losses see."""
        return self.share_done

    @cached_property
    def _uses_share(self) -> bool:
        """Whether an update depends on the share of training done."""
        bodies = any(net.body.uses_share for net in (self.settings.actor, self.settings.critic))
        methods = any(one.aggregator.info.uses_share for one in self._reductions())
        return bodies or methods or self._draws_by_share

    @property
    def _draws_by_share(self) -> bool:
        """Whether an update draws its samples in a way that depends on the share of training done."""
        return False

    @cached_property
    def _alternates(self) -> bool:
        """Whether updates follow different rules by their number."""
        return any(one.aggregator.info.alternates for one in self._reductions())

    @abstractmethod
    def _build(self) -> None:
        """Set ``settings``."""

    @abstractmethod
    def _fresh(self, seed: int) -> Networks:
        """Networks and optimizers as they are before training."""

    # Phases

    @property
    def resets(self) -> int:
        """How often all networks start afresh."""
        return 0

    @property
    def follows_total(self) -> bool:
        return bool(self._events) or self._uses_share

    def _pass_phases(self) -> None:
        """Begin the phases whose share of training is done; called before experience is collected."""
        while self._phase is not None and self._phase < len(self._events):
            event = self._events[self._phase]
            if event.share > self.share_done:
                return
            self._phase += 1
            self._begin_phase(event, self._fresh(self._stream(PHASES + self._phase)))

    def _begin_phase(self, event: Event, fresh: Networks) -> None:
        begin_phase(self.state, fresh, event, self.settings)

    @abstractmethod
    def _begin_data(self) -> None:
        """Start the random streams, and with no experience; called once, after the networks are made."""

    @abstractmethod
    def _make_room(self, env: TaskVectorEnv) -> None:
        """Make what holds experience, where it is not there yet."""

    def _stream(self, index: int) -> int:
        """The seed of one of the agent's random streams."""
        return stream_seed(self.seed, index)

    def _observed(self) -> Array:
        """The current observations; the environment starts at first use, since prediction needs none."""
        self._make_room(self.env)
        if self._obs is None:
            self._obs = self.env.reset(seed=self.seed)[0]
        return self._obs

    # Rounds

    def _begin_round(self, features: Features) -> None:
        """Let the curriculum decide, by what is known of each task now."""
        assert self._episodes is not None
        gramian = None
        updates = self.gradient_steps
        if self._rounds.wants_gramian(updates):
            gramian = tracked_gramian([self.state["actor_tasks"], self.state["critic_tasks"]])
        stats = self._rounds.statistics(self._episodes, gramian, updates)
        self._rounds.begin(stats, self.state, features)

    def _reductions(self) -> tuple[Reduction, Reduction]:
        return self.settings.actor_tasks, self.settings.critic_tasks

    def _recent_success(self) -> Tensor | None:
        """Success rate per task ``[1, T]`` of recent training episodes, where an aggregator looks at it."""
        needs = [reduction.aggregator.info.needs for reduction in self._reductions()]
        if not any("success" in names for names in needs):
            return None
        if self._episodes is None:
            return torch.zeros(1, self.spec.num_tasks, device=self.device)
        rate = self._episodes.recent_success
        if isinstance(rate, Tensor):
            return rate.to(self.device).float().unsqueeze(0)
        # Rates change when an episode ends, which is seldom beside updates.
        if self._success is None or not np.array_equal(rate, self._success[0]):
            self._success = rate.copy(), to_tensor(rate, self.device).float().unsqueeze(0)
        return self._success[1]

    def _note(self, metrics: dict[str, Tensor], task: int | None = None) -> None:
        """Take up the metrics of an update of all tasks, or of one."""
        if task is None and self._separate:
            metrics = per_task(metrics)
        self._meter.add(metrics, task)
        self._rounds.observe(metrics["critic_loss"], task)

    @property
    def _updates_alone(self) -> bool:
        """Whether the next update cannot be one call with those of other seeds."""
        return self._separate or self._rounds.head_pull is not None

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

    # Prediction

    def predict(
        self,
        observation: Array,
        state: Any = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
        *,
        task_id: Array | None = None,
    ) -> tuple[Array, Any]:
        device = device_of(observation)
        rows = obs_rows(
            self.spec, observation if device is None else to_tensor(observation, self.device)
        )
        ids = task_ids(self.spec, self._env, len(rows), task_id)
        policy = self.policy.of_rows(torch.from_numpy(ids))
        with torch.no_grad():
            recalled = state, episode_start
            output, log_std, memory = self._actor_outputs(
                rows, ids, *recalled, not deterministic
            )
            if deterministic:
                chosen = policy.mode(output, log_std)
            else:
                noise = policy.draw(output.shape[:-1], self._explore).to(output.device)
                chosen = policy.sample(output, noise, log_std)
        action = self.policy.to_env(placed(chosen, device))
        kept = None if memory is None else placed(memory, device)
        return (action[0] if np.ndim(observation) == 1 else action), kept

    @abstractmethod
    def _actor_outputs(
        self,
        rows: Array,
        ids: NDArray,
        state: Any,
        episode_start: Array | None,
        samples: bool,
    ) -> ActorOutputs:
        """The actor at observations ``[n, D]`` of the tasks ``ids`` ``[n]``; the rest is as in ``predict``.

        Args:
            samples: whether the network's body draws its noise.
        """

    def network_noise(self, network: Network, rows: Sequence[int]) -> Tensor | None:
        """Uniform numbers of each of an array of ``rows`` for acting; None where the body draws none."""
        shape = network.noise_shape(rows)
        if shape is None:
            return None
        # On the CPU, so that exploration does not depend on the device.
        drawn = torch.rand(shape, generator=self._explore)
        if not network.body.draws_by_task:
            return drawn
        return drawn[:, :, :1].expand_as(drawn).contiguous()

    # Metrics and state

    def metrics(self) -> dict[str, float]:
        # A fused ReLU turns NaN into 0, so losses alone could hide one. A device is waited for once, for both.
        finite = finite_networks(self.state)
        numbers = fetch([*finite.values(), *self._meter.sums])
        refuse_infinite(dict(zip(finite, numbers)), self.gradient_steps)
        episodes = self._episodes.drain() if self._episodes is not None else {}
        return self._meter.drain(numbers[len(finite) :]) | episodes | self._rounds.metrics()

    def check_finite(self) -> None:
        finite = finite_networks(self.state)
        refuse_infinite(dict(zip(finite, fetch(list(finite.values())))), self.gradient_steps)

    def images(self) -> dict[str, NDArray]:
        return self._rounds.images() | self._meter.images | self._shown()

    def _shown(self) -> dict[str, NDArray]:
        """What the networks' bodies show of themselves at the newest observations, keyed ``network/…``."""
        found: dict[str, NDArray] = {}
        networks = {"actor": self.actor, "critic": self.critic}
        if not any(network.body.shown for network in networks.values()):
            return found
        for role, x in self._newest_inputs().items():
            network = networks[role]
            params = self.state[role]["params"]
            # Of twin critics the first one stands for both.
            flat = params.view(len(x), -1, network.num_parameters)[:, 0]
            for name, matrices in network.shows(flat, x, self.share_done).items():
                shown = network.body.shown[name]
                if self._separate and not shown.is_of_single_tasks:
                    continue
                names = image_names(name, len(matrices), shown)
                for key, matrix in zip(names, matrices):
                    every = matrix.flatten(0, 1) if self._separate else matrix[0]
                    found[f"network/{role}_{key}"] = as_image(every, shown.signed)
        return found

    @abstractmethod
    def _newest_inputs(self) -> dict[str, Tensor]:
        """What ``actor`` and ``critic`` read at some of the newest observations of each task, ``[S, T, b, in]``.

        Empty where there are none.
        """

    @property
    def _num_copies(self) -> int:
        """Copies, in the networks, of what actor and critic have in common: all but one of three."""
        ties = self.settings.ties
        return (
            0 if ties is None else 2 * ties.num_parameters * len(self.state["actor"]["params"])
        )

    def _settle(self) -> None:
        """Put away what collection still holds back, before the state is read or replaced."""

    def state_dict(self, experience: bool = True) -> State:
        self._settle()
        collects = experience and self._env is not None
        if collects:
            self._observed()
        return super().state_dict(collects)

    def load_state_dict(self, state: State) -> None:
        self._settle()
        if "obs" in state:
            self._make_room(self.env)
        super().load_state_dict(state)
        if self._obs is not None:
            self._obs = placed(self._obs, self.env.device)
        # A run that is continued for longer ends where it was told to, not where it was first planned to.
        if self._budget is not None:
            self._planned = self._budget
