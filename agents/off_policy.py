"""What off-policy agents share: stepping the environments, replay, when updates are due, prediction and state.

An algorithm adds its networks and its update. Letters: T tasks, E environments per task, b rows of a task in a batch,
D features of an observation.

One deviation from the usual order, which lets simulation and update run at the same time: the update that follows
action ``t`` samples from the transitions stored before it, so transition ``t`` enters batches one vector step later.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtrl.agents.common import Networks
from mtrl.agents.curricula.coupling import MemberPull
from mtrl.agents.curricula.rounds import Rounds
from mtrl.agents.data.arrays import Array, to_tensor
from mtrl.agents.data.priorities import SumTree
from mtrl.agents.data.registry import REWARD_SCALES, SAMPLINGS
from mtrl.agents.data.replay import Batch, ByteReplay, ReplayBuffer
from mtrl.agents.data.rewards import PER_TASK
from mtrl.agents.data.tracking import EpisodeTracker
from mtrl.agents.data.transfer import Transfer
from mtrl.agents.members import group_rows, with_task_code
from mtrl.agents.networks.parameters import Params
from mtrl.agents.optim.phases import Event, restart
from mtrl.agents.policies import ActorCriticPolicy, RatioPolicy
from mtrl.agents.scheduled import EXPERIENCE, PROBES, ActorOutputs, ScheduledAgent
from mtrl.agents.state import Mark
from mtrl.envs.vector import TaskVectorEnv


class Grouped(NamedTuple):
    """How rows of any tasks are arranged by task.

    Attributes:
        tasks: of the rows, ``[n]``.
        rows: of each task, ``[T, m]``, on their device.
        back: where each row stands in the flattened ``[T m]``, ``[n]``, on the agent's device.
        policy: of these rows.
    """

    tasks: NDArray
    rows: Tensor
    back: Tensor
    policy: ActorCriticPolicy | RatioPolicy


@dataclass(init=False, eq=False, repr=False)
class OffPolicyAgent(ScheduledAgent):
    """Learns from batches of stored transitions, while the simulation takes the next step.

    The fields are its state; ``state`` holds a ``target_critic`` too.
    """

    state: Annotated[Networks, Mark("networks")]
    _noise: torch.Generator
    _explore: torch.Generator
    env_steps: int
    gradient_steps: int
    _updates_due: float
    _rounds: Rounds
    _buffer: Annotated[ReplayBuffer | None, EXPERIENCE]
    _episodes: Annotated[EpisodeTracker | None, EXPERIENCE]
    _obs: Annotated[Array | None, EXPERIENCE]
    _planned: int | None
    _phase: int | None
    _scale: Annotated[dict[str, Tensor], EXPERIENCE]

    def _begin_data(self) -> None:
        self.state["target_critic"]["params"].copy_(self.state["critic"]["params"])
        # Streams of their own, so that neither exploration nor the buffer shifts the other's draws.
        self._noise = torch.Generator(self.device).manual_seed(self._stream(1))
        self._explore = torch.Generator().manual_seed(self._stream(2))
        self._updates_due = 0.0
        self._turns_left = 0
        self._turn: tuple[int, MemberPull] | None = None
        self._action: Array | None = None
        self._grouped: Grouped | None = None
        self._to_device, self._to_host = Transfer(self.device), Transfer(self.device)
        self._landing: tuple[Array, ...] = ()
        self._buffer, self._episodes, self._obs = None, None, None
        self._reward_scale = REWARD_SCALES.make(self.config.reward_scale)
        self._scale: dict[str, Tensor] = {}
        self._sampling = SAMPLINGS.make(self.config.replay)
        self.derive()

    def derive(self) -> None:
        """Drop the actor's views, which are of parameters that are no longer those in use."""
        self._acting: Params | None = None

    def _begin_phase(self, event: Event, fresh: Networks) -> None:
        if event.whose == "agent":
            self._settle()
            restart(self.state, fresh)
            buffer = self._buffer
            assert buffer is not None
            if self._holds_enough(buffer):
                self._scale = self._reward_scale.restart(self._scale, buffer)
                self._updates_due += self.config.reset_updates
        else:
            super()._begin_phase(event, fresh)
        self.derive()

    @property
    def resets(self) -> int:
        return int(self.config.resets)

    def _scaled(self, batch: Batch, task: int | None = None) -> Batch:
        """``batch`` of every task or of one with rewards on the scale that critics learn."""
        if not self._scale:
            return batch
        factors = self._reward_scale.factors(self._scale, self._entropy_value())
        own = factors if task is None else factors[task : task + 1]
        return batch._replace(reward=batch.reward * own.view(1, -1, 1))

    def _entropy_value(self) -> Tensor:
        """The part of a value that each task's entropy bonus makes up at its target, ``[T]``."""
        target = abs(self.settings.target_entropy)
        if isinstance(target, Tensor):
            target = target.flatten()
        alpha = self.state["log_alpha"]["params"].flatten().exp()
        horizon = 1 / max(1 - self.config.gamma, 1e-3)
        return alpha * target * horizon

    @abstractmethod
    def update(self, batch: Batch) -> None:
        """Take one gradient step on ``batch``."""

    def advance(self) -> None:
        """Take one step in every environment, and the updates it pays for while the simulation runs."""
        self.start_step()
        while (batch := self.next_batch()) is not None:
            self.update(batch)
        self.finish_step()

    def most_updates(self, total_env_steps: int) -> int:
        starts = self.config.learning_starts * self.spec.num_tasks
        vector_steps = max(total_env_steps - starts, 0) // self.env.num_envs
        return int(vector_steps * self.config.utd_ratio) + 1

    def set_env(self, env: TaskVectorEnv) -> None:
        self._settle()
        super().set_env(env)
        self._obs = self._episodes = None

    # One step

    def start_step(self) -> None:
        """Act in every environment, and count the updates that become due; the simulation goes on by itself."""
        # The simulation runs on threads of its own while this process updates.
        env, buffer, _, obs = self._collector()
        self._pass_phases()
        self._action = self._to_host.place(self._exploration_action(obs), env.device)
        env.step_async(self.policy.to_env(self._action))
        self._turns_left, self._turn = 0, None
        self._learns = self._holds_enough(buffer)
        if self._learns:
            if self._rounds.due:
                self._begin_round(self._policy_features)
            self._updates_due += self.config.utd_ratio

    def _holds_enough(self, buffer: ReplayBuffer) -> bool:
        """Whether there are transitions enough to learn from."""
        return len(buffer) >= min(self.config.learning_starts, buffer.capacity)

    def next_batch(self) -> Batch | None:
        """The next batch to learn from in this step, ``[1, T, b, ...]``; None when no more updates are due.

        In a coupled round it is that of the one task whose turn it is, ``[1, 1, b, ...]``: as many batches as there are
        tasks make up an update.
        """
        assert self._buffer is not None
        size = self.config.batch_per_task
        tasks = self.spec.num_tasks
        if not self._turns_left:
            if not self._learns or self._updates_due < 1:
                return None
            self._updates_due -= 1
            self._turns_left = tasks if self._rounds.coupled else 1
        if not self._rounds.coupled:
            self._turns_left = 0
            return self._scaled(self._buffer.sample(size, beta=self._beta))
        steps_ahead = self.env.envs_per_task * (tasks - self._turns_left) / tasks
        # Whose turn it is depends on what the updates before it did to the networks.
        self._turn = self._rounds.member(steps_ahead, self.state, self._policy_features)
        self._turns_left -= 1
        task = self._turn[0]
        return self._scaled(self._buffer.sample(size, task, self._beta), task)

    @property
    def _beta(self) -> float:
        """Exponent of the weights of a batch."""
        return self._sampling.beta(self.share_done)

    @property
    def follows_total(self) -> bool:
        return self._sampling.anneals or super().follows_total

    def _prioritise(self, batch: Batch, errors: Tensor | None, task: int | None = None) -> None:
        """Give the transitions of a batch the priorities that their errors say, of all tasks or of one."""
        if batch.places is None or errors is None:
            return
        assert self._buffer is not None
        # One of the axes of seeds and tasks has size 1, whichever holds the tasks.
        priority = self._sampling.priority(errors.detach().flatten(0, 1))
        self._buffer.prioritise(batch.places.flatten(0, 1), priority, task)

    def finish_step(self) -> None:
        """Wait for the simulation, and store what it did."""
        env, buffer, episodes, obs = self._collector()
        assert self._action is not None
        # Steps count toward a round once there are updates; random steps at the start do not.
        if self._learns:
            self._rounds.count(env.envs_per_task)
        next_obs, reward, terminated, truncated, info = env.step_wait()
        done = terminated | truncated
        rows = self._rows(buffer, obs, self._action, reward, terminated, info["final_obs"])
        self._landing = rows, reward, done
        # A device gets them with what the next step needs.
        if not self._to_device.packs:
            self._settle()
        episodes.add(reward, info["success"], done)
        self._obs, self._turn = next_obs, None
        self.env_steps += env.num_envs
        self._hooks.step(reward, terminated, truncated, info)
        self._hooks.rollout_end()

    def _collector(self) -> tuple[TaskVectorEnv, ReplayBuffer, EpisodeTracker, Array]:
        """Environment, buffer, tracker and current observations."""
        obs = self._observed()
        assert self._buffer is not None and self._episodes is not None
        return self.env, self._buffer, self._episodes, obs

    def _make_room(self, env: TaskVectorEnv) -> None:
        if self._buffer is None:
            kind = ReplayBuffer if self.spec.layout is None else ByteReplay
            capacity = max(self.config.buffer_per_task, env.envs_per_task)
            priorities = None
            if not self._sampling.is_uniform:
                priorities = SumTree(env.num_tasks, capacity, self.device, self._stream(5))
            self._buffer = kind(
                env.num_tasks,
                capacity,
                self.spec.obs_dim,
                1 if self.spec.discrete else self.spec.action_dim,
                self.device,
                self._stream(3),
                priorities,
            )
        if self._episodes is None:
            self._episodes = EpisodeTracker(self.spec.task_names, env.envs_per_task, env.device)
            # What is known of the tasks' returns stays; episodes under way start afresh.
            fresh = self._reward_scale.init(env.num_tasks, env.envs_per_task, self.device)
            known = {name: self._scale[name] for name in PER_TASK if name in self._scale}
            self._scale = fresh | known

    def _exploration_action(self, obs: Array) -> Tensor:
        """Actions as they are stored: uniform until ``learning_starts``, then from the policy."""
        ids = self.env.task_id
        if self.env_steps < self.config.learning_starts * self.spec.num_tasks:
            self._settle()
            policy = self.policy.of_rows(torch.from_numpy(ids))
            return policy.random(len(ids), self._explore)
        stored = self._stored(obs)
        grouped = self._grouping(ids, stored.device)
        of_network = self.network_noise(self.actor, self._lead_of(grouped))
        of_policy = grouped.policy.draw((len(ids),), self._explore)
        # What a step needs goes up together with what came of the last one.
        rows, drawn, noise, *landing = self._to_device.upload(
            stored[grouped.rows], of_network, of_policy, *self._landing
        )
        self._land(landing)
        output = self._policy_output(rows, grouped, drawn)
        return grouped.policy.sample(output, noise)

    def _rows(self, buffer: ReplayBuffer, *transition: Array) -> Tensor:
        """What ``buffer`` writes for obs, action, reward, terminated and true next obs of one vector step.

        Each is ``[T E, ...]``.
        """
        stored = [self._stored(array) for array in transition]
        return buffer.pack(
            *[tensor.unflatten(0, (self.spec.num_tasks, -1)) for tensor in stored]
        )

    def _settle(self) -> None:
        """Bring the last step's transitions to the device, where they are still on the host."""
        self._land(self._to_device.upload(*self._landing))

    def _land(self, arrived: Sequence[Array]) -> None:
        """Write the last step's transitions, and let the scale of rewards learn from them.

        Args:
            arrived: what ``finish_step`` left of it, on the device; empty if nothing was left.
        """
        self._landing = ()
        if not arrived:
            return
        assert self._buffer is not None
        rows, reward, done = arrived
        self._buffer.write(to_tensor(rows, self.device))
        if self._scale:
            by_task = (self.spec.num_tasks, -1)
            rewards = to_tensor(reward, self.device).float().view(by_task)
            ends = to_tensor(done, self.device).view(by_task)
            gamma = self.config.gamma
            self._scale = self._reward_scale.observe(self._scale, rewards, ends, gamma)

    def _stored(self, array: Array) -> Tensor:
        """A float32 tensor where ``array`` lives, but categories and discrete actions stay integers."""
        tensor = to_tensor(array)
        is_integer = not tensor.is_floating_point() and tensor.dtype != torch.bool
        return tensor if is_integer else tensor.float()

    # Prediction

    def _actor_outputs(
        self,
        rows: Array,
        ids: NDArray,
        state: Any,
        episode_start: Array | None,
        samples: bool,
    ) -> ActorOutputs:
        stored = self._stored(rows)
        grouped = self._grouping(ids, stored.device)
        drawn = None
        if samples:
            drawn = self.network_noise(self.actor, self._lead_of(grouped))
        # Not the training's buffers, whose copies may be under way.
        there, drawn = Transfer(self.device).upload(stored[grouped.rows], drawn)
        return ActorOutputs(self._policy_output(there, grouped, drawn))

    @torch.no_grad()
    def _policy_output(self, rows: Array, grouped: Grouped, drawn: Array | None) -> Tensor:
        """The actor's outputs ``[n, O]`` in float32 for observations arranged by task ``[T, m, D]``.

        Args:
            drawn: the body's noise.
        """
        network = self.actor
        # Views of the parameters are made once an update, not once a step.
        if self._acting is None:
            self._acting = network.constants(self.state["actor"]["params"], torch.float32)
        x = to_tensor(rows, self.device).unsqueeze(1 if self._separate else 0)
        x = with_task_code(x, self.config.heads == "one-hot")
        output = network.forward(self._acting, x, None, drawn, self.share_done).flatten(0, 2)
        return output[grouped.back]

    def _lead_of(self, grouped: Grouped) -> tuple[int, ...]:
        """The first axes of observations arranged by task, as the network takes them."""
        return (*self._lead, grouped.rows.shape[1])

    def _grouping(self, task_id: NDArray, device: torch.device) -> Grouped:
        """The arrangement of rows of these tasks on ``device``; kept, since environments keep their order."""
        known = self._grouped
        if (
            known is None
            or known.rows.device != device
            or not np.array_equal(known.tasks, task_id)
        ):
            index, place = group_rows(task_id, self.spec.num_tasks)
            policy = self.policy.of_rows(torch.from_numpy(task_id))
            there, back = to_tensor(index, device), to_tensor(place, self.device)
            known = self._grouped = Grouped(task_id.copy(), there, back, policy)
        return known

    def _policy_features(self) -> Tensor:
        """Features ``[T, n, F]`` of every task's policy at the newest observations of all tasks."""
        assert self._buffer is not None
        tasks = self.spec.num_tasks
        obs = self._buffer.newest(PROBES)[0].flatten(0, 1)
        ids = np.repeat(np.arange(tasks), len(obs))
        grouped = self._grouping(ids, obs.device)
        rows = self._stored(obs.repeat(tasks, 1))[grouped.rows]
        output = self._policy_output(rows, grouped, None)
        return grouped.policy.features(output).unflatten(0, (tasks, -1))

    # Metrics and state

    @torch.no_grad()
    def _newest_inputs(self) -> dict[str, Tensor]:
        if self._buffer is None or not len(self._buffer):
            return {}
        obs, action = self._buffer.newest(PROBES)
        lead = (*self._lead, *obs.shape[1:2])
        one_hot = self.config.heads == "one-hot"
        x = with_task_code(obs.view(*lead, -1), one_hot)
        critic: Tensor = self.settings.policy.critic_input(x, action.view(*lead, -1))
        return {"actor": x, "critic": critic}

    def rebase(self, boundary: int) -> None:
        _, _, episodes, _ = self._collector()
        self._obs = self.env.rebase(boundary)
        episodes.restart()

    @property
    def num_parameters(self) -> int:
        held = [self.state[name]["params"] for name in ("actor", "critic", "log_alpha")]
        return sum(params.numel() for params in held) - self._num_copies
