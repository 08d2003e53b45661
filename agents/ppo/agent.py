"""MTPPO: task-conditioned PPO with minibatches that hold equally many samples of every task.

The defaults are a recipe tuned for wall-clock time on few CPU cores: tanh actor, LayerNorm critic with a value scale
per task (PopArt), advantages normalized per task, normalized observations. ``configs/methods/mtppo-reference.yaml`` has
the settings that the field reports.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from mtrl.agents.curricula.coupling import Pull
from mtrl.agents.data.rollout import Rollout
from mtrl.agents.members import member, per_task, to_members
from mtrl.agents.on_policy import OnPolicyAgent
from mtrl.agents.ppo.build import ppo_settings
from mtrl.agents.ppo.settings import MTPPOConfig
from mtrl.agents.ppo.update import Draw, Epochs, PPOInputs, PPOSettings, Progress, condition, init_ppo, ppo_update
from mtrl.agents.settings import AgentConfig


class MTPPO(OnPolicyAgent):
    """Task-conditioned PPO, for bounded ``Box`` and for ``Discrete`` actions.

    Continuous actions are Gaussian with a standard deviation per task and component that does not depend on the state;
    they are clipped to the bounds on their way into the environment, their density is that of the unclipped action. The
    ratio uses the marginal density of each action, also where successive noise is correlated. ``predict`` draws
    independent noise. Advantages stop where an episode ends, and a truncated one bootstraps from its own last
    observation.

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
    settings: PPOSettings

    def _build(self) -> None:
        self.settings = settings = ppo_settings(self.config, self.spec, self.device)
        self.actor, self.critic, self.policy = settings.actor, settings.critic, settings.policy
        self.sequence = settings.sequence
        self.state = init_ppo(settings, [self.seed] * self._lead[0], self.config.initial_std, self.device)

    @property
    def acting_dtype(self) -> torch.dtype:
        # Where networks are small and steps quick, acting in the arithmetic of updates is worth it.
        return torch.float32 if self.spec.layout is None else self.settings.dtype

    def condition(self, obs: Tensor) -> Tensor:
        return condition(obs, self.settings)

    def update(self, rollout: Rollout) -> None:
        """Learn from ``rollout`` ``[1, T, L, E, ...]``, with draws from the agent's stream."""
        if self._rounds.coupled:
            self._update_in_turn(rollout)
            return
        inputs = self.update_inputs(rollout)
        metrics, steps = ppo_update(self.state, *inputs)
        self.finish_update(metrics, steps, inputs)

    def update_inputs(self, rollout: Rollout) -> PPOInputs:
        """The arguments of the agent's whole update, apart from its state."""
        data = to_members(rollout) if self._separate else rollout
        return self._inputs(data, self.settings, self._rounds.head_pull)

    def stack_key(self) -> Hashable | None:
        """Equal for agents whose next updates can be one call; None where this one can only update alone."""
        if self._separate or self._rounds.head_pull is not None:
            return None
        # Steps so far differ between seeds that met the KL limit; averaging does not look at them.
        averages = self.settings.actor_tasks.is_mean and self.settings.critic_tasks.is_mean
        return self._step_size, None if averages else self.gradient_steps

    def finish_update(self, metrics: dict[str, Tensor], steps: int, inputs: PPOInputs) -> None:
        """Account for an update of ``steps`` minibatches."""
        self._keep_draws(steps, inputs)
        metrics = per_task(metrics) if self._separate else metrics
        self._meter.add(metrics)
        self._rounds.observe(metrics["critic_loss"])
        self.gradient_steps += steps

    def _update_in_turn(self, rollout: Rollout) -> None:
        """Every task's agent learns from its part of ``rollout``, in the order of the curriculum."""
        parts = to_members(rollout)
        features = self._features_of(rollout)
        most = 0
        for _ in range(self.spec.num_tasks):
            self._rounds.next_turn(self.state, features)
            task, pull = self._rounds.seat(self.state)
            own = replace(self.settings, policy=self.policy.of_task(task))
            part = Rollout._make([field if field is None else field[task : task + 1] for field in parts])
            inputs = self._inputs(part, own, pull)
            metrics, steps = ppo_update(member(self.state, task), *inputs)
            self._keep_draws(steps, inputs)
            self._meter.add(metrics, task)
            self._rounds.observe(metrics["critic_loss"], task)
            most = max(most, steps)
        self.gradient_steps += most

    def _inputs(self, rollout: Rollout, settings: PPOSettings, pull: Pull | None) -> PPOInputs:
        lead = rollout.reward.shape[:2]
        epochs = Epochs(partial(self._draws, *lead), self.config.epochs, self._shuffle)
        progress = Progress(self._recent_success(), self.gradient_steps, self._rounds.weights)
        return PPOInputs(rollout, epochs, self._step_size, settings, progress, pull)

    def _draws(self, seeds: int, tasks: int) -> list[Draw]:
        """The minibatches of one pass: every sample once, in an order of its own for every task."""
        length = max(self.sequence, 1)
        shape = (seeds, tasks, self.config.rollout_per_task // length)
        order = torch.rand(shape, generator=self._shuffle, device=self.device).argsort(-1)
        within = torch.arange(length, device=self.device)
        draws = []
        for first in order.tensor_split(self.config.minibatches, -1):
            rows = first if length == 1 else (first.unsqueeze(-1) * length + within).flatten(2)
            actor_noise = self._uniform(self.settings.actor_tasks.noise_shape())
            critic_noise = self._uniform(self.settings.critic_tasks.noise_shape())
            draws.append(Draw(rows, actor_noise, critic_noise))
        return draws

    def _uniform(self, shape: tuple[int, ...] | None) -> Tensor | None:
        return None if shape is None else torch.rand((1, *shape), generator=self._shuffle, device=self.device)

    def _keep_draws(self, steps: int, inputs: PPOInputs) -> None:
        """Leave the stream where it stands after the passes that were made."""
        if isinstance(inputs.epochs, Epochs):
            inputs.epochs.keep(steps // self.config.minibatches)

    def _recent_success(self) -> Tensor | None:
        """Success rate per task ``[1, T]`` of recent training episodes, where an aggregator looks at it."""
        reductions = (self.settings.actor_tasks, self.settings.critic_tasks)
        if not any("success" in reduction.aggregator.info.needs for reduction in reductions):
            return None
        if self._episodes is None:
            return None
        return torch.from_numpy(self._episodes.recent_success).to(self.device, torch.float32).unsqueeze(0)
