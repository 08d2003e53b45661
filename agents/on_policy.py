"""What on-policy agents share: collecting rollouts, memory, exploration, schedules, prediction and state.

An algorithm adds its networks and its update. Letters: T tasks, E environments per task, L steps of a rollout,
D features of an observation, A components of an action, H units of memory.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtrl.agents.agent import EnvSpec, State
from mtrl.agents.common import obs_rows, restore_networks, stream_seed, task_ids
from mtrl.agents.curricula.coupling import Features
from mtrl.agents.data.noise import CorrelatedNoise
from mtrl.agents.data.normalize import ObsNormalizer
from mtrl.agents.data.rollout import Rollout, RolloutBuffer
from mtrl.agents.data.tracking import EpisodeTracker, Meter
from mtrl.agents.errors import AgentError
from mtrl.agents.members import group_rows, with_task_code
from mtrl.agents.networks.network import MLP, Recall, Views
from mtrl.agents.policies import Gaussian, RatioPolicy
from mtrl.agents.scheduled import PROBES, ScheduledAgent
from mtrl.envs.vector import TaskVectorEnv


class OnPolicyAgent(ScheduledAgent):
    """Learns from rollouts of its present policy, one after the other. To a curriculum a rollout is a round.

    Rollouts may be longer than episodes and cross their ends.

    Attributes:
        actor, critic: layouts of the networks whose parameters ``state`` holds.
        policy: gives actions from the actor's outputs.
        sequence: steps through which gradients flow in memory; 0 without memory.
        config: settings of the algorithm, with those of MTPPO that collection, schedules and prediction read.
    """

    config: Any
    actor: MLP
    critic: MLP
    policy: RatioPolicy
    sequence: int

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
        self._build()
        self._start_rounds(
            self.config.curriculum, self.config.heads, self.actor, self.critic, cycles=True
        )
        self._explore = torch.Generator().manual_seed(stream_seed(seed, 1))
        self._shuffle = torch.Generator(self.device).manual_seed(stream_seed(seed, 2))
        self._normalizer = ObsNormalizer(
            self.spec.obs_dim, self.config.normalize_obs and self.spec.layout is None
        )
        self._meter = Meter(self.spec.task_names)
        self._budget: int | None = None
        self._step_size = (
            self.config.learning_rate
        )  # of the update that the rollout under way pays for
        self._forget()
        self._check_rollout()

    @abstractmethod
    def _build(self) -> None:
        """Make the networks: set ``actor``, ``critic``, ``policy``, ``sequence`` and ``state``."""

    @property
    @abstractmethod
    def acting_dtype(self) -> torch.dtype:
        """The arithmetic of collection."""

    @abstractmethod
    def update(self, rollout: Rollout) -> None:
        """Learn from a rollout."""

    def advance(self) -> None:
        """Collect one rollout in every environment, and learn from it."""
        rollout = self.collect()
        self.update(rollout)

    def most_updates(self, total_env_steps: int) -> int:
        rollout = self.config.rollout_per_task * self.spec.num_tasks
        rollouts = -(-total_env_steps // rollout)
        # Tasks that pause shorten rollouts, to one task's part at the least.
        if self._rounds.curriculum.info.paces:
            rollouts *= self.spec.num_tasks
        return rollouts * self.config.epochs * self.config.minibatches

    def begin(self, total_env_steps: int) -> None:
        self._budget = total_env_steps

    def set_env(self, env: TaskVectorEnv) -> None:
        super().set_env(env)
        self._check_rollout()
        self._forget()

    def _forget(self) -> None:
        """Drop what belongs to the environment: episodes in progress, and what goes on from their last step."""
        self._episodes: EpisodeTracker | None = None
        self._obs: NDArray | None = None
        self._noise = CorrelatedNoise()
        self._memory: Tensor | None = None
        self._start: Tensor | None = None
        self._last: Rollout | None = None

    def _check_rollout(self) -> None:
        """Raise AgentError for a rollout that does not fit the environment."""
        if self._env is None:
            return
        envs = self._env.envs_per_task
        if self.config.rollout_per_task % envs:
            asked = self.config.rollout_per_task
            raise AgentError(
                f"rollout_per_task: {asked} is not a multiple of the {envs} environments per task"
            )
        steps = self.config.rollout_per_task // envs
        if self.sequence and steps % self.sequence:
            raise AgentError(
                f"sequence: {self.sequence} does not divide the {steps} steps of an environment in a rollout "
                "(rollout_per_task / envs_per_task)"
            )

    # Collection

    def collect(self) -> Rollout:
        """Take ``rollout_per_task`` env steps with the present policy, of every task or of those that do not pause."""
        # The step size is that of the time at which the rollout begins, whose update it pays for.
        self._step_size = self.config.learning_rate * self._share_left()
        env, episodes, obs = self._collector()
        paused = self._paused(env)
        active = np.ones(env.num_tasks, np.bool_) if paused is None else ~paused
        acting = np.repeat(active, env.envs_per_task)
        moves = torch.from_numpy(acting).to(self.device)
        steps_taken = int(acting.sum())
        buffer = self._rollout_buffer(env)
        actor = self.actor.constants(self.state["actor"]["params"], self.acting_dtype)
        critic: Views = {}
        if self.sequence:
            critic = self.critic.constants(self.state["critic"]["params"], self.acting_dtype)
        for step in range(self.config.rollout_per_task // env.envs_per_task):
            # Tasks that pause repeat one observation, which would weigh on the statistics for ever.
            self._normalizer.count(obs if paused is None else obs[acting])
            normal = self._normalizer(obs)
            before = self._before()
            action = (
                self._act(actor, critic, torch.from_numpy(normal).to(self.device)).cpu().numpy()
            )
            env.step_async(self.policy.to_env(action))
            obs, reward, terminated, truncated, info = env.step_wait()
            done = terminated | truncated
            after = self._normalizer(info["final_obs"])
            buffer.add(step, normal, after, action, reward, terminated, done, before=before)
            # The memory of a task that pauses stays what it was: no step was taken.
            if before and self._memory is not None:
                self._start = torch.where(moves, torch.from_numpy(done).to(self.device), before[0])
                self._memory = torch.where(moves.unsqueeze(-1), self._memory, before[1])
            episodes.add(reward, info["success"], done, None if paused is None else active)
            self._obs = obs
            self.env_steps += steps_taken
            self._hooks.step(reward, terminated, truncated, info)
        rollout = buffer.rollout(self.device)
        if paused is not None:
            rollout = rollout.renewed(self._last, torch.from_numpy(active).to(self.device))
            self._last = rollout
        self._hooks.rollout_end()
        self._begin_round(self._features_of(rollout))
        return rollout

    def _collector(self) -> tuple[TaskVectorEnv, EpisodeTracker, NDArray]:
        """Environment, tracker and current observations; made at first use, since prediction needs none."""
        env = self.env
        if self._episodes is None:
            self._episodes = EpisodeTracker(self.spec.task_names, env.envs_per_task)
        if self._obs is None:
            self._obs = env.reset(seed=self.seed)[0]
        return env, self._episodes, self._obs

    def _paused(self, env: TaskVectorEnv) -> NDArray[np.bool_] | None:
        """Let tasks pause as the curriculum says; which do ``[T]``, or None with a curriculum that never lets any."""
        paused = self._rounds.paused
        if paused is None:
            return None
        paused &= (
            self._last is not None
        )  # a task pauses only once there is a rollout of its own to learn from
        env.pause(paused)
        return paused

    def _rollout_buffer(self, env: TaskVectorEnv) -> RolloutBuffer:
        spec = self.spec
        shape = (
            env.num_tasks,
            self.config.rollout_per_task // env.envs_per_task,
            env.envs_per_task,
        )
        action_dim = None if spec.discrete else spec.action_dim
        return RolloutBuffer(
            shape, spec.obs_dim, action_dim, np.float32 if spec.layout is None else np.uint8
        )

    @torch.no_grad()
    def _act(self, actor: Views, critic: Views, rows: Tensor) -> Tensor:
        """Sampled actions of every environment's normalized observation ``[T E, D]``; moves the memory on."""
        x = with_task_code(
            rows.view(*self._lead, -1, self.spec.obs_dim), self.config.heads == "one-hot"
        )
        recalled: list[Recall | None] = [None, None]
        if self._memory is not None and self._start is not None:
            start = self._start.view(x.shape[:3])
            recalled = [
                Recall(part.view(*x.shape[:3], -1), start) for part in self._memory.chunk(2, -1)
            ]
        hidden = self.actor.trunk(actor, x, recalled[0])
        # The critic's memory has to move on too, since sequences start from it in the update.
        if critic:
            values = self.critic.trunk(critic, x, recalled[1])
            self._memory = torch.cat([hidden, values], -1).flatten(0, 2)
        output = self.actor.heads(actor, hidden)
        noise = self.policy.draw(output.shape[:-1], self._explore).to(self.device)
        log_std = None
        if isinstance(self.policy, Gaussian):
            noise = self._noise.next(noise, self._noise_correlation())
            log_std = self.state["log_std"]["params"].unsqueeze(2)
        return self.policy.sample(output, noise, log_std).flatten(0, 2)

    def _before(self) -> tuple[Tensor, ...]:
        """Where episodes start, and the memory ``[T E, 2 H]`` before the next step; nothing without memory."""
        if not self.sequence:
            return ()
        if self._memory is None or self._start is None:
            self._memory = torch.zeros(self.env.num_envs, 2 * self.config.width, device=self.device)
            self._start = torch.ones(self.env.num_envs, dtype=torch.bool, device=self.device)
        return self._start, self._memory

    # Schedules

    def _share_left(self) -> float:
        """What the schedule leaves of step sizes and noise correlation, from 1 to 0."""
        if self.config.schedule == "constant" or self._budget is None:
            return 1.0
        return max(0.0, 1 - self.env_steps / self._budget)

    def _noise_correlation(self) -> NDArray[np.float64]:
        """Correlation of successive exploration noise of each task now, ``[T]``."""
        left, until = self._share_left(), self.config.noise_until
        share = left if until is None else float(1 - left < until)
        rho = self.config.noise_correlation * share
        if not self.config.noise_by_failure:
            return np.full(self.spec.num_tasks, rho)
        assert self._episodes is not None
        return rho * (1 - self._episodes.recent_success)

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
        recalled = self._recalled(len(rows), state, episode_start)
        tasks = torch.from_numpy(ids).to(self.device)
        with torch.no_grad():
            output, hidden = self._outputs(
                torch.from_numpy(self._normalizer(rows)).to(self.device), tasks, recalled
            )
            log_std = (
                self.state["log_std"]["params"].flatten(0, 1)[tasks]
                if "log_std" in self.state
                else None
            )
            policy = self.policy.of_rows(tasks)
            if deterministic:
                chosen = policy.mode(output, log_std)
            else:
                noise = policy.draw(output.shape[:-1], self._explore).to(self.device)
                chosen = policy.sample(output, noise, log_std)
        action = self.policy.to_env(chosen.cpu().numpy())
        memory = None if hidden is None else hidden.cpu().numpy()
        return (action[0] if np.ndim(observation) == 1 else action), memory

    def _recalled(self, rows: int, state: Any, episode_start: NDArray | None) -> Recall | None:
        """What the actor goes on from, of ``predict``'s arguments; None without memory."""
        if not self.sequence:
            return None
        # Without a state an episode begins, as where SB3's recurrent policies are given none.
        shape = (rows, self.config.width)
        memory = np.zeros(shape, np.float32) if state is None else np.asarray(state, np.float32)
        if memory.shape != shape:
            raise AgentError(
                f"state: shape {memory.shape} is not {shape}, the memory of {rows} observations"
            )
        start = (
            np.zeros(rows, bool)
            if episode_start is None
            else np.broadcast_to(episode_start, rows).astype(bool)
        )
        kept = torch.from_numpy(memory).to(self.device)
        begun = torch.from_numpy(start).to(self.device)
        return Recall(kept[None, None], begun[None, None])

    @torch.no_grad()
    def _outputs(
        self, x: Tensor, tasks: Tensor, recalled: Recall | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The actor's outputs ``[n, O]`` for normalized rows ``[n, D]`` of any tasks ``[n]``, and the memory."""
        network = self.actor
        actor = network.views(self.state["actor"]["params"], torch.float32)
        if self._separate:
            index, place = group_rows(tasks.cpu().numpy(), self.spec.num_tasks)
            grouped = x[torch.from_numpy(index).to(self.device)].unsqueeze(1)
            output = network.forward(actor, grouped).flatten(0, 2)
            return output[torch.from_numpy(place).to(self.device)], None
        if self.config.heads == "one-hot":
            x = torch.cat(
                [x, torch.nn.functional.one_hot(tasks, self.spec.num_tasks).to(x.dtype)], 1
            )
        hidden = network.trunk(actor, x[None, None], recalled)[0]
        output = network.head_rows(actor, hidden, tasks)[0]
        return output, hidden[0] if recalled is not None else None

    def _features_of(self, rollout: Rollout) -> Features:
        """Gives every task's policy at some of the observations of a rollout, when a curriculum asks for it."""
        return partial(self._policy_features, rollout.obs[0].flatten(1, 2))

    def _policy_features(self, obs: Tensor) -> Tensor:
        """Every task's policy at some of the normalized observations ``[T, n, D]``, ``[T, m, F]``."""
        tasks = self.spec.num_tasks
        rows = obs[:, :: max(1, obs.shape[1] // PROBES)].flatten(0, 1)
        owner = torch.arange(tasks, device=self.device).repeat_interleave(len(rows))
        output, _ = self._outputs(rows.repeat(tasks, 1), owner)
        return self.policy.of_rows(owner).features(output).unflatten(0, (tasks, -1))

    # Metrics and state

    def rebase(self, boundary: int) -> None:
        """Restart the collection; nothing is lost, since no rollout is under way between two calls of ``advance``."""
        _, episodes, _ = self._collector()
        self._obs = self.env.rebase(boundary)
        self._noise = CorrelatedNoise()
        self._memory = None
        episodes.restart()

    @property
    def num_parameters(self) -> int:
        return sum(
            tensors["params"].numel() for tensors in self.state.values() if "params" in tensors
        )

    def state_dict(self, experience: bool = True) -> State:
        state: State = {
            "networks": {net: dict(tensors) for net, tensors in self.state.items()},
            "normalizer": self._normalizer.state_dict(),
            "explore": self._explore.get_state(),
            "shuffle": self._shuffle.get_state(),
            "env_steps": self.env_steps,
            "gradient_steps": self.gradient_steps,
            "rounds": self._rounds.state_dict(),
        }
        if experience and self._env is not None:
            _, episodes, obs = self._collector()
            state["episodes"] = episodes.state_dict()
            state["obs"] = torch.from_numpy(obs.copy())
            if self._noise.last is not None:
                state["noise"] = self._noise.last.clone()
            if self._memory is not None and self._start is not None:
                state["memory"] = {"state": self._memory.clone(), "start": self._start.clone()}
            if self._last is not None:
                fields = self._last._asdict().items()
                state["rollout"] = {
                    name: field.clone() for name, field in fields if field is not None
                }
        return state

    def load_state_dict(self, state: State) -> None:
        restore_networks(self.state, state["networks"])
        self._normalizer.load_state_dict(state["normalizer"])
        self._explore.set_state(state["explore"].cpu())
        self._shuffle.set_state(state["shuffle"].cpu())
        self.env_steps, self.gradient_steps = state["env_steps"], state["gradient_steps"]
        self._rounds.load_state_dict(state["rounds"])
        if "obs" not in state:
            return
        self._obs = state["obs"].numpy().copy()
        _, episodes, _ = self._collector()
        episodes.load_state_dict(state["episodes"])
        self._noise.last = state["noise"].to(self.device) if "noise" in state else None
        if "memory" in state:
            self._memory = state["memory"]["state"].to(self.device)
            self._start = state["memory"]["start"].to(self.device)
        if "rollout" in state:
            self._last = Rollout(
                **{name: field.to(self.device) for name, field in state["rollout"].items()}
            )
