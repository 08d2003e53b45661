"""MTSAC: task-conditioned soft actor-critic with an equal batch per task and a temperature per task.

Defaults are the reference settings that the field reports on Meta-World (Yu et al. 2020; McLean et al. 2025):
multi-head 400x3 networks, twin critics, Adam 3e-4, one update per vector step.

One deviation, which lets simulation and update run at the same time: the update that follows action ``t`` samples from
the transitions stored before it, so transition ``t`` enters batches one vector step later than usual.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtrl.agents.actions import make_actions
from mtrl.agents.base import EnvSpec, State
from mtrl.agents.common import (
    check_networks_finite,
    obs_rows,
    restore_networks,
    stream_seed,
    task_ids,
)
from mtrl.agents.curricula.coupling import Pull
from mtrl.agents.lessons import SACLesson
from mtrl.agents.members import group_rows, member, per_task, to_members
from mtrl.agents.mtsac_build import member_settings, sac_settings
from mtrl.agents.mtsac_settings import MTSACConfig
from mtrl.agents.replay import Batch, ByteReplay, ReplayBuffer
from mtrl.agents.sac import Progress, SACNoise, SACSettings, SACState, init_sac
from mtrl.agents.scheduled import PROBES, ScheduledAgent
from mtrl.agents.settings import AgentConfig
from mtrl.agents.tracking import EpisodeTracker, Meter
from mtrl.agents.turns import Turn, finish_alone
from mtrl.envs import TaskVectorEnv


class MTSAC(ScheduledAgent):
    """Task-conditioned SAC, for bounded ``Box`` and for ``Discrete`` actions (see ``mtrl.agents.discrete_sac``).

    Example:
        >>> from mtrl.envs import make_vec
        >>> from mtrl.agents import MTSAC
        >>> agent = MTSAC(make_vec("mt1:reach-v3", seed=0), width=64, learning_starts=100)
        >>> agent.learn(200).env_steps
        200
    """

    name: ClassVar[str] = "mtsac"
    config_class: ClassVar[type[AgentConfig]] = MTSACConfig
    discrete_actions: ClassVar[bool] = True
    config: MTSACConfig

    def __init__(
        self,
        env: TaskVectorEnv | EnvSpec,
        config: MTSACConfig | None = None,
        *,
        seed: int = 0,
        device: str | torch.device = "auto",
        **overrides: Any,
    ) -> None:
        super().__init__(env, config, seed=seed, device=device, **overrides)
        self._actions = make_actions(self.spec, self.device)
        self.settings = sac_settings(self.config, self.spec, self.device)
        self._separate = self.config.heads == "separate"
        members = [self.seed] * (self.spec.num_tasks if self._separate else 1)
        self.state = init_sac(self.settings, members, self.config.initial_alpha, self.device, self._separate)
        self._start_rounds(self.config.curriculum, self.config.heads, self.settings.actor, self.settings.critic)
        self.state["target_critic"]["params"].copy_(self.state["critic"]["params"])
        # Streams of their own, so that neither exploration nor the buffer shifts the other's draws.
        self._noise = torch.Generator(self.device).manual_seed(stream_seed(self.seed, 1))
        self._explore = torch.Generator().manual_seed(stream_seed(self.seed, 2))
        self._meter = Meter(self.spec.task_names)
        self._acting: dict[str, Tensor] | None = None
        self._updates_due = 0.0
        self._buffer: ReplayBuffer | None = None
        self._episodes: EpisodeTracker | None = None
        self._obs: NDArray | None = None

    def set_env(self, env: TaskVectorEnv) -> None:
        super().set_env(env)
        self._obs = self._episodes = None

    def turn(self) -> Turn:
        """One step in every environment, and the updates it pays for, computed while the simulation runs."""
        env, buffer, episodes, obs = self._collector()
        action = self._exploration_action(obs)
        env.step_async(self._actions.to_env(action))
        yield from self._update_when_due(buffer)
        next_obs, reward, terminated, truncated, info = env.step_wait()
        self._store(buffer, obs, action, reward, terminated, info["final_obs"])
        episodes.add(reward, info["success"], terminated | truncated)
        self._obs = next_obs
        self.env_steps += env.num_envs
        self._hooks.step(reward, terminated, truncated, info)
        self._hooks.rollout_end()

    def update(self, batch: Batch) -> None:
        """One gradient step on ``batch`` ``[1, T, b, ...]`` with noise from the agent's stream."""
        finish_alone(self._update(batch))

    def update_member(self, task: int, batch: Batch, pull: Pull) -> None:
        """One gradient step of one task's agent on ``batch`` ``[1, 1, b, ...]`` of that task."""
        finish_alone(self._update_member(task, batch, pull))

    def _update(self, batch: Batch) -> Turn:
        if self._separate:
            metrics = per_task((yield self._lesson(self.state, to_members(batch))))
        else:
            metrics = yield self._lesson(self.state, batch, self._rounds.head_pull)
        self._meter.add(metrics)
        self._rounds.observe(metrics["critic_loss"])
        self.gradient_steps += 1

    def _update_member(self, task: int, batch: Batch, pull: Pull) -> Turn:
        own = member_settings(self.settings, task)
        metrics = yield self._lesson(member(self.state, task), batch, pull, own)
        self._meter.add(metrics, task)
        self._rounds.observe(metrics["critic_loss"], task)

    def _lesson(
        self, state: SACState, batch: Batch, pull: Pull | None = None, settings: SACSettings | None = None
    ) -> SACLesson:
        shape = (*batch.reward.shape, 0 if self.spec.discrete else self.spec.action_dim)
        normal = torch.randn((2, *shape), generator=self._noise, device=self.device)
        tasks = [self._uniform(r.noise_shape()) for r in (self.settings.actor_tasks, self.settings.critic_tasks)]
        progress = Progress(self._recent_success(), self.gradient_steps, self._rounds.weights)
        self._acting = None
        noise = SACNoise(normal[0], normal[1], *tasks)
        return SACLesson(state, batch, noise, settings or self.settings, progress, pull, not self._separate)

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
        output, tasks = self._policy_output(rows, ids), torch.from_numpy(ids)
        if deterministic:
            action = self._actions.mode(output, tasks)
        else:
            action = self._actions.sample(output, tasks, self._explore)
        scaled = self._actions.to_env(action)
        return (scaled[0] if np.ndim(observation) == 1 else scaled), None

    def metrics(self) -> dict[str, float]:
        self.check_finite()  # a fused ReLU turns NaN into 0, so losses alone could hide one
        episodes = self._episodes.drain() if self._episodes is not None else {}
        return self._meter.drain() | episodes | self._rounds.metrics()

    def check_finite(self) -> None:
        check_networks_finite(self.state, self.gradient_steps)

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
        if "buffer" in state:
            self._obs = state["obs"].numpy().copy()
            _, buffer, episodes, _ = self._collector()
            buffer.load_state_dict(state["buffer"])
            episodes.load_state_dict(state["episodes"])

    def _uniform(self, shape: tuple[int, ...] | None) -> Tensor | None:
        return None if shape is None else torch.rand((1, *shape), generator=self._noise, device=self.device)

    def _recent_success(self) -> Tensor | None:
        """Success rate per task ``[1, T]`` of recent training episodes, where an aggregator looks at it."""
        settings = self.settings
        if not any("success" in r.aggregator.info.needs for r in (settings.actor_tasks, settings.critic_tasks)):
            return None
        rate = np.zeros(self.spec.num_tasks) if self._episodes is None else self._episodes.recent_success
        return torch.from_numpy(rate).to(self.device, torch.float32).unsqueeze(0)

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
        tasks = torch.from_numpy(self.env.task_id)
        if self.env_steps < self.config.learning_starts * self.spec.num_tasks:
            return self._actions.random(tasks, self._explore)
        return self._actions.sample(self._policy_output(obs, self.env.task_id), tasks, self._explore)

    def _update_when_due(self, buffer: ReplayBuffer) -> Turn:
        if len(buffer) < min(self.config.learning_starts, buffer.capacity):
            return
        if self._rounds.due:
            self._begin_round(self._policy_features)
        self._updates_due += self.config.utd_ratio
        while self._updates_due >= 1:
            self._updates_due -= 1
            if self._rounds.coupled:
                yield from self._train_in_turn(buffer)
            else:
                yield from self._update(buffer.sample(self.config.batch_per_task))
        self._rounds.count(self.env.envs_per_task)

    def _train_in_turn(self, buffer: ReplayBuffer) -> Turn:
        """As many gradient steps as there are tasks, all for the agents whose turn it is."""
        for index in range(self.spec.num_tasks):
            ahead = self.env.envs_per_task * index / self.spec.num_tasks
            task, pull = self._rounds.member(ahead, self.state, self._policy_features)
            yield from self._update_member(task, buffer.sample(self.config.batch_per_task, task), pull)
        self.gradient_steps += 1

    def _policy_features(self) -> Tensor:
        """Features ``[T, n, F]`` of every task's policy at the newest observations of all tasks."""
        assert self._buffer is not None
        obs, tasks = self._buffer.newest_obs(PROBES).cpu().numpy(), self.spec.num_tasks
        ids = np.repeat(np.arange(tasks), len(obs))
        output = self._policy_output(np.tile(obs, (tasks, 1)), ids)
        return self._actions.features(output, torch.from_numpy(ids)).unflatten(0, (tasks, -1))

    def _store(self, buffer: ReplayBuffer, *transition: NDArray) -> None:
        """Write obs, action, reward, terminated and true next obs of one vector step, each ``[num_envs, ...]``."""
        arrays = (torch.from_numpy(self._stored(array)) for array in transition)
        buffer.add(*(array.unflatten(0, (self.spec.num_tasks, -1)) for array in arrays))

    def _stored(self, array: NDArray) -> NDArray:
        """Float32, but categories and discrete actions stay integers."""
        return array if array.dtype.kind in "iu" else array.astype(np.float32, copy=False)

    @torch.no_grad()
    def _policy_output(self, obs: NDArray, task_id: NDArray) -> Tensor:
        """The policy's outputs ``[n, O]`` for rows ``[n, D]``, in float32: means and log deviations, or logits."""
        if self._acting is None:
            self._acting = self.settings.actor.views(self.state["actor"]["params"], torch.float32)
        rows = torch.from_numpy(self._stored(obs)).to(self.device)
        if self._separate:
            index, place = (torch.from_numpy(a).to(self.device) for a in group_rows(task_id, self.spec.num_tasks))
            output = self.settings.actor.forward(self._acting, rows[index].unsqueeze(1))
            return output.flatten(0, 2)[place]
        tasks = torch.from_numpy(np.asarray(task_id)).to(self.device)
        if self.settings.one_hot:
            rows = torch.cat([rows, torch.nn.functional.one_hot(tasks, self.spec.num_tasks).to(rows.dtype)], 1)
        return self.settings.actor.forward_rows(self._acting, rows.unsqueeze(0), tasks)[0]
