"""MTPPO: task-conditioned PPO with minibatches that hold equally many samples of every task.

The defaults are a recipe tuned for wall-clock time on few CPU cores: tanh actor, LayerNorm critic with a value scale
per task (PopArt), advantages normalized per task, normalized observations. ``configs/methods/mtppo-reference.yaml`` has
the settings that the field reports.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtrl.agents.base import EnvSpec, State
from mtrl.agents.common import (
    check_networks_finite,
    obs_rows,
    restore_networks,
    scale_action,
    stream_seed,
    task_ids,
)
from mtrl.agents.curricula.coupling import Features, Pull
from mtrl.agents.distributions import categorical_sample, clipped_mean, gaussian_sample
from mtrl.agents.errors import AgentError
from mtrl.agents.lessons import PPOLesson
from mtrl.agents.members import group_rows, member, per_task, to_members
from mtrl.agents.mtppo_build import ppo_settings
from mtrl.agents.mtppo_settings import MTPPOConfig
from mtrl.agents.networks import Recall, Views
from mtrl.agents.normalize import ObsNormalizer
from mtrl.agents.ppo import Draw, PPOSettings, PPOState, Progress, condition, init_ppo, masked
from mtrl.agents.rollout import Rollout, RolloutBuffer
from mtrl.agents.scheduled import PROBES, ScheduledAgent
from mtrl.agents.settings import AgentConfig
from mtrl.agents.task_gradients import Reduction
from mtrl.agents.tracking import EpisodeTracker, Meter
from mtrl.agents.turns import Turn
from mtrl.envs import TaskVectorEnv


class MTPPO(ScheduledAgent):
    """Task-conditioned PPO, for bounded ``Box`` and for ``Discrete`` actions.

    Continuous actions are Gaussian with a standard deviation per task and component that does not depend on the state;
    they are clipped to the bounds on their way into the environment, their density is that of the unclipped action.
    While training explores, successive noise may be correlated; each action alone keeps its Gaussian (Hollenstein et
    al. 2024, "Colored Noise in PPO", who shape the noise's spectrum instead). ``predict`` draws independent noise.

    Rollouts may be longer than episodes and cross their ends: advantages stop there, and a truncated episode bootstraps
    from its own last observation.

    Example:
        >>> from mtrl.envs import make_vec
        >>> from mtrl.agents import MTPPO
        >>> agent = MTPPO(make_vec("mt1:reach-v3", seed=0), width=64, rollout_per_task=500)
        >>> agent.learn(1_000).env_steps
        1000
    """

    name: ClassVar[str] = "mtppo"
    config_class: ClassVar[type[AgentConfig]] = MTPPOConfig
    discrete_actions: ClassVar[bool] = True
    config: MTPPOConfig

    def __init__(
        self,
        env: TaskVectorEnv | EnvSpec,
        config: MTPPOConfig | None = None,
        *,
        seed: int = 0,
        device: str | torch.device = "auto",
        **overrides: Any,
    ) -> None:
        super().__init__(env, config, seed=seed, device=device, **overrides)
        self.settings = ppo_settings(self.config, self.spec, self.device)
        self._separate = self.config.heads == "separate"
        self._lead = (self.spec.num_tasks, 1) if self._separate else (1, self.spec.num_tasks)
        self.state = init_ppo(self.settings, [self.seed] * self._lead[0], self.config.initial_std, self.device)
        self._start_rounds(self.config.curriculum, self.config.heads, self.settings.actor, self.settings.critic)
        self._explore = torch.Generator().manual_seed(stream_seed(self.seed, 1))
        self._shuffle = torch.Generator(self.device).manual_seed(stream_seed(self.seed, 2))
        self._normalizer = ObsNormalizer(self.spec.obs_dim, self.config.normalize_obs and self.spec.layout is None)
        self._meter = Meter(self.spec.task_names)
        self._budget: int | None = None
        self._episodes: EpisodeTracker | None = None
        self._obs: NDArray | None = None
        self._noise: Tensor | None = None
        self._memory: Tensor | None = None
        self._start: Tensor | None = None
        self._last: Rollout | None = None
        self._check_rollout()

    def set_env(self, env: TaskVectorEnv) -> None:
        super().set_env(env)
        self._check_rollout()
        self._obs = self._episodes = self._noise = self._memory = self._last = None

    def begin(self, total_env_steps: int) -> None:
        self._budget = total_env_steps

    def turn(self) -> Turn:
        """One rollout in every environment, and the update it pays for; to a curriculum, a round."""
        learning_rate = self.config.learning_rate * self._share_left()
        rollout = self._collect()
        self._hooks.rollout_end()
        features = partial(self._policy_features, rollout.obs[0].flatten(1, 2))
        self._begin_round(features)
        if self._rounds.coupled:
            yield from self._train_in_turn(to_members(rollout), learning_rate, features)
        else:
            data = to_members(rollout) if self._separate else rollout
            pull = self._rounds.head_pull
            metrics, steps = yield self._lesson(self.state, data, self.settings, learning_rate, pull)
            metrics = per_task(metrics) if self._separate else metrics
            self._meter.add(metrics)
            self._rounds.observe(metrics["critic_loss"])
            self.gradient_steps += steps

    def _train_in_turn(self, rollout: Rollout, learning_rate: float, features: Features) -> Turn:
        """Every agent learns from its part of a rollout ``[T, 1, ...]``, in the order of the curriculum."""
        most = 0
        for _ in range(self.spec.num_tasks):
            self._rounds.next_turn(self.state, features)
            task, pull = self._rounds.seat(self.state)
            mask = self.settings.action_mask
            own = replace(self.settings, action_mask=None if mask is None else mask[task : task + 1])
            part = Rollout._make(field if field is None else field[task : task + 1] for field in rollout)
            metrics, steps = yield self._lesson(member(self.state, task), part, own, learning_rate, pull)
            self._meter.add(metrics, task)
            self._rounds.observe(metrics["critic_loss"], task)
            most = max(most, steps)
        self.gradient_steps += most

    def _lesson(
        self, state: PPOState, rollout: Rollout, settings: PPOSettings, learning_rate: float, pull: Pull | None
    ) -> PPOLesson:
        lead = rollout.reward.shape[:2]
        epochs = (self._draws(*lead) for _ in range(self.config.epochs))
        progress = Progress(self._recent_success(), self.gradient_steps, self._rounds.weights)
        shared = not self._separate
        return PPOLesson(state, rollout, epochs, self._shuffle, learning_rate, settings, progress, pull, shared)

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
        goes_on = self._recalled(len(rows), state, episode_start)
        chosen, memory = self._act_rows(self._normalizer(rows), ids, deterministic, goes_on)
        action = self._env_action(chosen.cpu().numpy())
        return (action[0] if np.ndim(observation) == 1 else action), memory

    def metrics(self) -> dict[str, float]:
        self.check_finite()
        episodes = self._episodes.drain() if self._episodes is not None else {}
        return self._meter.drain() | episodes | self._rounds.metrics()

    def check_finite(self) -> None:
        check_networks_finite(self.state, self.gradient_steps)

    def rebase(self, boundary: int) -> None:
        """Restart the collection; nothing is lost, since no rollout is under way between two calls of ``advance``."""
        _, episodes, _ = self._collector()
        self._obs, self._noise, self._memory = self.env.rebase(boundary), None, None
        episodes.restart()

    @property
    def num_parameters(self) -> int:
        return sum(tensors["params"].numel() for tensors in self.state.values() if "params" in tensors)

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
            if self._noise is not None:
                state["noise"] = self._noise.clone()
            if self._memory is not None and self._start is not None:
                state["memory"] = {"state": self._memory.clone(), "start": self._start.clone()}
            if self._last is not None:
                fields = self._last._asdict().items()
                state["rollout"] = {name: field.clone() for name, field in fields if field is not None}
        return state

    def load_state_dict(self, state: State) -> None:
        restore_networks(self.state, state["networks"])
        self._normalizer.load_state_dict(state["normalizer"])
        self._explore.set_state(state["explore"].cpu())
        self._shuffle.set_state(state["shuffle"].cpu())
        self.env_steps, self.gradient_steps = state["env_steps"], state["gradient_steps"]
        self._rounds.load_state_dict(state["rounds"])
        if "obs" in state:
            self._obs = state["obs"].numpy().copy()
            _, episodes, _ = self._collector()
            episodes.load_state_dict(state["episodes"])
            self._noise = state["noise"].to(self.device) if "noise" in state else None
            if "memory" in state:
                self._memory, self._start = (state["memory"][name].to(self.device) for name in ("state", "start"))
            if "rollout" in state:
                self._last = Rollout(**{name: field.to(self.device) for name, field in state["rollout"].items()})

    def _draws(self, seeds: int, tasks: int) -> Iterator[Draw]:
        """The steps of one epoch: every sample once, in an order of its own for every task."""
        length = max(self.settings.sequence, 1)
        shape = (seeds, tasks, self.config.rollout_per_task // length)
        order = torch.rand(shape, generator=self._shuffle, device=self.device).argsort(-1)
        within = torch.arange(length, device=self.device)
        for first in order.tensor_split(self.config.minibatches, -1):
            rows = first if length == 1 else (first.unsqueeze(-1) * length + within).flatten(2)
            yield Draw(rows, *(self._uniform(r.noise_shape()) for r in self._reductions()))

    def _uniform(self, shape: tuple[int, ...] | None) -> Tensor | None:
        return None if shape is None else torch.rand((1, *shape), generator=self._shuffle, device=self.device)

    def _reductions(self) -> tuple[Reduction, Reduction]:
        return self.settings.actor_tasks, self.settings.critic_tasks

    def _recent_success(self) -> Tensor | None:
        """Success rate per task ``[1, T]`` of recent training episodes, where an aggregator looks at it."""
        if not any("success" in r.aggregator.info.needs for r in self._reductions()) or self._episodes is None:
            return None
        return torch.from_numpy(self._episodes.recent_success).to(self.device, torch.float32).unsqueeze(0)

    def _policy_features(self, obs: Tensor) -> Tensor:
        """Every task's policy at some of the normalized observations ``[T, n, D]`` of a rollout, ``[T, m, A]``: mean
        actions, or probabilities."""
        tasks = self.spec.num_tasks
        rows = obs[:, :: max(1, obs.shape[1] // PROBES)].flatten(0, 1)
        owner = torch.arange(tasks, device=self.device).repeat_interleave(len(rows))
        output = self._outputs(rows.repeat(tasks, 1), owner)[0].unflatten(0, (tasks, -1))
        return output.softmax(-1) if self.spec.discrete else output.clamp(-1, 1)

    def _share_left(self) -> float:
        """What the schedule leaves of step sizes and noise correlation, from 1 to 0."""
        if self.config.schedule == "constant" or self._budget is None:
            return 1.0
        return max(0.0, 1 - self.env_steps / self._budget)

    def _check_rollout(self) -> None:
        if self._env is not None and self.config.rollout_per_task % self._env.envs_per_task:
            raise AgentError(
                f"rollout_per_task: {self.config.rollout_per_task} is not a multiple of the "
                f"{self._env.envs_per_task} environments per task"
            )
        steps = self.config.rollout_per_task // (self._env.envs_per_task if self._env else 1)
        if self._env is not None and self.settings.sequence and steps % self.settings.sequence:
            raise AgentError(
                f"sequence: {self.settings.sequence} does not divide the {steps} steps of an environment in a rollout "
                "(rollout_per_task / envs_per_task)"
            )

    def _recalled(self, rows: int, state: Any, episode_start: NDArray | None) -> Recall | None:
        """What the actor goes on from, of ``predict``'s arguments; None without memory."""
        if not self.settings.sequence:
            return None
        shape = (rows, self.config.width)
        memory = np.zeros(shape, np.float32) if state is None else np.asarray(state, np.float32)
        if memory.shape != shape:
            raise AgentError(f"state: shape {memory.shape} is not {shape}, the memory of {rows} observations")
        start = np.zeros(rows, bool) if episode_start is None else np.broadcast_to(episode_start, rows).astype(bool)
        kept, begun = (torch.from_numpy(array).to(self.device) for array in (memory, start))
        return Recall(kept[None, None], begun[None, None])

    def _collector(self) -> tuple[TaskVectorEnv, EpisodeTracker, NDArray]:
        """Environment, tracker and current observations; made at first use, since prediction needs none."""
        env = self.env
        if self._episodes is None:
            self._episodes = EpisodeTracker(self.spec.task_names, env.envs_per_task)
        if self._obs is None:
            self._obs = env.reset(seed=self.seed)[0]
        return env, self._episodes, self._obs

    def _collect(self) -> Rollout:
        """``rollout_per_task`` env steps with the present policy, of every task or of those that do not pause."""
        env, episodes, obs = self._collector()
        paused = self._rounds.paused
        if paused is not None:
            paused &= self._last is not None
            env.pause(paused)
        active = np.ones(env.num_tasks, np.bool_) if paused is None else ~paused
        acting = np.repeat(active, env.envs_per_task)
        moves = torch.from_numpy(acting).to(self.device)
        shape = (env.num_tasks, self.config.rollout_per_task // env.envs_per_task, env.envs_per_task)
        spec = self.spec
        action_dim = None if spec.discrete else spec.action_dim
        buffer = RolloutBuffer(shape, spec.obs_dim, action_dim, np.float32 if spec.layout is None else np.uint8)
        # Where networks are small and steps quick, acting in the arithmetic of updates is worth it.
        dtype = torch.float32 if spec.layout is None else self.settings.dtype
        recurrent = bool(self.settings.sequence)
        critic = self.settings.critic.constants(self.state["critic"]["params"], dtype) if recurrent else {}
        actor = self.settings.actor.constants(self.state["actor"]["params"], dtype)
        steps = int(acting.sum())
        for step in range(shape[1]):
            self._normalizer.count(obs if paused is None else obs[acting])
            normal = self._normalizer(obs)
            before = self._before()
            action = self._act(actor, critic, torch.from_numpy(normal).to(self.device)).cpu().numpy()
            env.step_async(self._env_action(action))
            obs, reward, terminated, truncated, info = env.step_wait()
            done, after = terminated | truncated, self._normalizer(info["final_obs"])
            buffer.add(step, normal, after, action, reward, terminated, done, before=before)
            if before and self._memory is not None:
                self._start = torch.where(moves, torch.from_numpy(done).to(self.device), before[0])
                self._memory = torch.where(moves.unsqueeze(-1), self._memory, before[1])
            episodes.add(reward, info["success"], done, None if paused is None else active)
            self._obs = obs
            self.env_steps += steps
            self._hooks.step(reward, terminated, truncated, info)
        rollout = buffer.rollout(self.device)
        if paused is not None:
            rollout = self._last = rollout.renewed(self._last, torch.from_numpy(active).to(self.device))
        return rollout

    @torch.no_grad()
    def _act(self, actor: Views, critic: Views, rows: Tensor) -> Tensor:
        """Sampled actions of every environment's normalized observation ``[num_envs, D]``; moves the memory on."""
        x = condition(rows.view(*self._lead, -1, self.spec.obs_dim), self.settings)
        goes_on: list[Recall | None] = [None, None]
        if self._memory is not None and self._start is not None:
            start = self._start.view(x.shape[:3])
            goes_on = [Recall(part.view(*x.shape[:3], -1), start) for part in self._memory.chunk(2, -1)]
        hidden = self.settings.actor.trunk(actor, x, goes_on[0])
        if critic:
            values = self.settings.critic.trunk(critic, x, goes_on[1])
            self._memory = torch.cat([hidden, values], -1).flatten(0, 2)
        output = self.settings.actor.heads(actor, hidden)
        if self.spec.discrete:
            noise = torch.rand(output.shape, generator=self._explore).to(self.device)
            return categorical_sample(masked(output, self.settings.action_mask), noise).flatten()
        noise = self._next_noise(output.shape)
        return gaussian_sample(output, self.state["log_std"]["params"].unsqueeze(2), noise).flatten(0, 2)

    def _before(self) -> tuple[Tensor, ...]:
        """Where episodes start, and the memory ``[num_envs, 2 H]`` before the next step; nothing without memory."""
        if not self.settings.sequence:
            return ()
        if self._memory is None or self._start is None:
            self._memory = torch.zeros(self.env.num_envs, 2 * self.config.width, device=self.device)
            self._start = torch.ones(self.env.num_envs, dtype=torch.bool, device=self.device)
        return self._start, self._memory

    def _next_noise(self, shape: torch.Size) -> Tensor:
        """Standard normal noise for the next actions, correlated with that of the last (AR(1))."""
        fresh = torch.randn(shape, generator=self._explore).to(self.device)
        rho = self._noise_correlation()
        if not rho.any():
            self._noise = None  # nothing goes on from it
            return fresh
        each = torch.from_numpy(rho).view(*self._lead, 1, 1)
        kept, added = (part.float().to(self.device) for part in (each, (1 - each.square()).sqrt()))
        self._noise = fresh if self._noise is None else kept * self._noise + added * fresh
        return self._noise

    def _noise_correlation(self) -> NDArray[np.float64]:
        """Correlation of successive exploration noise of each task now, ``[T]``."""
        left, until = self._share_left(), self.config.noise_until
        share = left if until is None else float(1 - left < until)
        rho = self.config.noise_correlation * share
        if not self.config.noise_by_failure:
            return np.full(self.spec.num_tasks, rho)
        assert self._episodes is not None
        return rho * (1 - self._episodes.recent_success)

    @torch.no_grad()
    def _act_rows(
        self, rows: NDArray, task_id: NDArray, deterministic: bool, goes_on: Recall | None
    ) -> tuple[Tensor, NDArray | None]:
        """Actions for normalized rows ``[n, D]`` of any tasks, and the memory ``[n, H]`` after them."""
        tasks = torch.from_numpy(task_id).to(self.device)
        output, hidden = self._outputs(torch.from_numpy(rows).to(self.device), tasks, goes_on)
        memory = None if hidden is None else hidden.cpu().numpy()
        if self.spec.discrete:
            if deterministic:
                return output.argmax(-1), memory
            noise = torch.rand(output.shape, generator=self._explore).to(self.device)
            return categorical_sample(output, noise), memory
        log_std = self.state["log_std"]["params"].flatten(0, 1)[tasks]
        if deterministic:
            return (output if self.config.deterministic_action == "mode" else clipped_mean(output, log_std)), memory
        noise = torch.randn(output.shape, generator=self._explore).to(self.device)
        return gaussian_sample(output, log_std, noise), memory

    @torch.no_grad()
    def _outputs(self, x: Tensor, tasks: Tensor, goes_on: Recall | None = None) -> tuple[Tensor, Tensor | None]:
        """Mean actions, or logits, ``[n, A]`` of normalized rows ``[n, D]`` of any tasks ``[n]``, and the memory."""
        memory = None
        network = self.settings.actor
        actor = network.views(self.state["actor"]["params"], torch.float32)
        if self._separate:
            index, place = (torch.from_numpy(a) for a in group_rows(tasks.cpu().numpy(), self.spec.num_tasks))
            output = network.forward(actor, x[index.to(self.device)].unsqueeze(1)).flatten(0, 2)[place.to(self.device)]
        else:
            if self.settings.one_hot:
                x = torch.cat([x, torch.nn.functional.one_hot(tasks, self.spec.num_tasks).to(x.dtype)], 1)
            hidden = network.trunk(actor, x[None, None], goes_on)[0]
            memory = hidden[0] if goes_on is not None else None
            output = network.head_rows(actor, hidden, tasks)[0]
        mask = self.settings.action_mask
        return (output if mask is None else output.masked_fill(~mask.flatten(0, 1)[tasks], -1e9)), memory

    def _env_action(self, action: NDArray) -> NDArray:
        return action if self.spec.discrete else scale_action(self.spec, action)
