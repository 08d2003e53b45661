"""What off-policy agents share: stepping the environments, replay, when updates are due, prediction and state.

An algorithm adds its networks and its update. Letters: T tasks, E environments per task, b rows of a task in a batch,
D features of an observation.

One deviation from the usual order, which lets simulation and update run at the same time: the update that follows
action ``t`` samples from the transitions stored before it, so transition ``t`` enters batches one vector step later.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtrl.agents.agent import EnvSpec, State
from mtrl.agents.common import obs_rows, restore_networks, stream_seed, task_ids
from mtrl.agents.curricula.coupling import MemberPull
from mtrl.agents.data.replay import Batch, ByteReplay, ReplayBuffer
from mtrl.agents.data.tracking import EpisodeTracker, Meter
from mtrl.agents.members import group_rows
from mtrl.agents.networks.network import MLP
from mtrl.agents.policies import ActorCriticPolicy
from mtrl.agents.scheduled import PROBES, ScheduledAgent
from mtrl.envs.vector import TaskVectorEnv


class OffPolicyAgent(ScheduledAgent):
    """Learns from batches of stored transitions, while the simulation takes the next step.

    Attributes:
        actor, critic: layouts of the networks whose parameters ``state`` holds.
        policy: gives actions from the actor's outputs.
        config: settings of the algorithm, with those of MTSAC that stepping, replay and prediction read.
    """

    config: Any
    actor: MLP
    critic: MLP
    policy: ActorCriticPolicy

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
        self._build()
        self._start_rounds(self.config.curriculum, self.config.heads, self.actor, self.critic)
        self.state["target_critic"]["params"].copy_(self.state["critic"]["params"])
        # Streams of their own, so that neither exploration nor the buffer shifts the other's draws.
        self._noise = torch.Generator(self.device).manual_seed(stream_seed(seed, 1))
        self._explore = torch.Generator().manual_seed(stream_seed(seed, 2))
        self._meter = Meter(self.spec.task_names)
        self._acting: dict[str, Tensor] | None = None
        self._updates_due = 0.0
        self._turns_left = 0
        self._turn: tuple[int, MemberPull] | None = None
        self._buffer: ReplayBuffer | None = None
        self._episodes: EpisodeTracker | None = None
        self._obs: NDArray | None = None
        self._action: NDArray | None = None

    @abstractmethod
    def _build(self) -> None:
        """Make the networks: set ``actor``, ``critic``, ``policy`` and ``state``, with a ``target_critic`` in it."""

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
        super().set_env(env)
        self._obs = self._episodes = None

    # One step

    def start_step(self) -> None:
        """Act in every environment, and count the updates that become due; the simulation goes on by itself."""
        # The simulation runs on threads of its own while this process updates.
        env, buffer, _, obs = self._collector()
        self._action = self._exploration_action(obs)
        env.step_async(self.policy.to_env(self._action))
        self._turns_left, self._turn = 0, None
        self._learns = len(buffer) >= min(self.config.learning_starts, buffer.capacity)
        if self._learns:
            if self._rounds.due:
                self._begin_round(self._policy_features)
            self._updates_due += self.config.utd_ratio

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
            return self._buffer.sample(size)
        steps_ahead = self.env.envs_per_task * (tasks - self._turns_left) / tasks
        # Whose turn it is depends on what the updates before it did to the networks.
        self._turn = self._rounds.member(steps_ahead, self.state, self._policy_features)
        self._turns_left -= 1
        return self._buffer.sample(size, self._turn[0])

    def finish_step(self) -> None:
        """Wait for the simulation, and store what it did."""
        env, buffer, episodes, obs = self._collector()
        assert self._action is not None
        # Steps count toward a round once there are updates; random steps at the start do not.
        if self._learns:
            self._rounds.count(env.envs_per_task)
        next_obs, reward, terminated, truncated, info = env.step_wait()
        self._store(buffer, obs, self._action, reward, terminated, info["final_obs"])
        episodes.add(reward, info["success"], terminated | truncated)
        self._obs, self._turn = next_obs, None
        self.env_steps += env.num_envs
        self._hooks.step(reward, terminated, truncated, info)
        self._hooks.rollout_end()

    def _collector(self) -> tuple[TaskVectorEnv, ReplayBuffer, EpisodeTracker, NDArray]:
        """Environment, buffer, tracker and current observations; made at first use, since prediction needs none."""
        env, config = self.env, self.config
        if self._buffer is None:
            kind = ReplayBuffer if self.spec.layout is None else ByteReplay
            self._buffer = kind(
                env.num_tasks,
                max(config.buffer_per_task, env.envs_per_task),
                self.spec.obs_dim,
                1 if self.spec.discrete else self.spec.action_dim,
                self.device,
                stream_seed(self.seed, 3),
            )
        if self._episodes is None:
            self._episodes = EpisodeTracker(self.spec.task_names, env.envs_per_task)
        if self._obs is None:
            self._obs = env.reset(seed=self.seed)[0]
        return env, self._buffer, self._episodes, self._obs

    def _exploration_action(self, obs: NDArray) -> NDArray:
        """Actions as they are stored: uniform until ``learning_starts``, then from the policy."""
        ids = self.env.task_id
        policy = self.policy.of_rows(torch.from_numpy(ids))
        if self.env_steps < self.config.learning_starts * self.spec.num_tasks:
            return policy.random(len(ids), self._explore).cpu().numpy()
        output = self._policy_output(obs, ids)
        noise = policy.draw(output.shape[:-1], self._explore).to(output.device)
        return policy.sample(output, noise).cpu().numpy()

    def _store(self, buffer: ReplayBuffer, *transition: NDArray) -> None:
        """Write obs, action, reward, terminated and true next obs of one vector step, each ``[T E, ...]``."""
        arrays = [torch.from_numpy(self._stored(array)) for array in transition]
        buffer.add(*[array.unflatten(0, (self.spec.num_tasks, -1)) for array in arrays])

    def _stored(self, array: NDArray) -> NDArray:
        """Float32, but categories and discrete actions stay integers."""
        return array if array.dtype.kind in "iu" else array.astype(np.float32, copy=False)

    # Prediction

    def predict(
        self,
        observation: NDArray,
        state: Any = None,
        episode_start: NDArray | None = None,
        deterministic: bool = False,
        *,
        task_id: NDArray | None = None,
    ) -> tuple[NDArray, Any]:
        rows = obs_rows(self.spec, observation)
        ids = task_ids(self.spec, self._env, len(rows), task_id)
        output = self._policy_output(rows, ids)
        policy = self.policy.of_rows(torch.from_numpy(ids))
        if deterministic:
            chosen = policy.mode(output)
        else:
            noise = policy.draw(output.shape[:-1], self._explore).to(output.device)
            chosen = policy.sample(output, noise)
        action = self.policy.to_env(chosen.cpu().numpy())
        return (action[0] if np.ndim(observation) == 1 else action), None

    @torch.no_grad()
    def _policy_output(self, obs: NDArray, task_id: NDArray) -> Tensor:
        """The actor's outputs ``[n, O]`` for rows ``[n, D]`` of any tasks, in float32."""
        network = self.actor
        # Views of the parameters are made once an update, not once a step.
        if self._acting is None:
            self._acting = network.views(self.state["actor"]["params"], torch.float32)
        rows = torch.from_numpy(self._stored(obs)).to(self.device)
        if self._separate:
            index, place = group_rows(task_id, self.spec.num_tasks)
            grouped = rows[torch.from_numpy(index).to(self.device)].unsqueeze(1)
            return network.forward(self._acting, grouped).flatten(0, 2)[
                torch.from_numpy(place).to(self.device)
            ]
        tasks = torch.from_numpy(np.asarray(task_id)).to(self.device)
        if self.config.heads == "one-hot":
            rows = torch.cat(
                [rows, torch.nn.functional.one_hot(tasks, self.spec.num_tasks).to(rows.dtype)], 1
            )
        return network.forward_rows(self._acting, rows.unsqueeze(0), tasks)[0]

    def _policy_features(self) -> Tensor:
        """Features ``[T, n, F]`` of every task's policy at the newest observations of all tasks."""
        assert self._buffer is not None
        tasks = self.spec.num_tasks
        obs = self._buffer.newest_obs(PROBES).cpu().numpy()
        ids = np.repeat(np.arange(tasks), len(obs))
        output = self._policy_output(np.tile(obs, (tasks, 1)), ids)
        return self.policy.of_rows(torch.from_numpy(ids)).features(output).unflatten(0, (tasks, -1))

    # Metrics and state

    def rebase(self, boundary: int) -> None:
        _, _, episodes, _ = self._collector()
        self._obs = self.env.rebase(boundary)
        episodes.restart()

    @property
    def num_parameters(self) -> int:
        return sum(self.state[name]["params"].numel() for name in ("actor", "critic", "log_alpha"))

    def state_dict(self, experience: bool = True) -> State:
        state: State = {
            "networks": {net: dict(tensors) for net, tensors in self.state.items()},
            "noise": self._noise.get_state(),
            "explore": self._explore.get_state(),
            "env_steps": self.env_steps,
            "gradient_steps": self.gradient_steps,
            "updates_due": self._updates_due,
            "rounds": self._rounds.state_dict(),
        }
        if experience and self._env is not None:
            _, buffer, episodes, obs = self._collector()
            state["buffer"] = buffer.state_dict()
            state["episodes"] = episodes.state_dict()
            state["obs"] = torch.from_numpy(obs.copy())
        return state

    def load_state_dict(self, state: State) -> None:
        restore_networks(self.state, state["networks"])
        self._noise.set_state(state["noise"].cpu())
        self._explore.set_state(state["explore"].cpu())
        self.env_steps, self.gradient_steps = state["env_steps"], state["gradient_steps"]
        self._updates_due = state["updates_due"]
        self._rounds.load_state_dict(state["rounds"])
        self._acting = None
        if "buffer" not in state:
            return
        self._obs = state["obs"].numpy().copy()
        _, buffer, episodes, _ = self._collector()
        buffer.load_state_dict(state["buffer"])
        episodes.load_state_dict(state["episodes"])
