"""MTSAC: task-conditioned soft actor-critic with an equal batch per task and a temperature per task.

Defaults are the reference settings that the field reports on Meta-World (Yu et al. 2020; McLean et al. 2025):
multi-head 400x3 networks, twin critics, Adam 3e-4, one update per vector step.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from mtrl.agents.data.replay import Batch
from mtrl.agents.members import member, per_task, to_members
from mtrl.agents.off_policy import OffPolicyAgent
from mtrl.agents.sac.build import member_settings, sac_settings
from mtrl.agents.sac.settings import MTSACConfig
from mtrl.agents.sac.update import Progress, SACInputs, SACNoise, SACSettings, init_sac, sac_update
from mtrl.agents.settings import AgentConfig


class MTSAC(OffPolicyAgent):
    """Task-conditioned SAC, for bounded ``Box`` and for ``Discrete`` actions.

    >>> from mtrl import MTSAC, make_vec
    >>> MTSAC(make_vec("mt1:reach-v3", seed=0), width=64, learning_starts=100).learn(200).env_steps
    200
    """

    name: ClassVar[str] = "mtsac"
    config_class: ClassVar[type[AgentConfig]] = MTSACConfig
    discrete_actions: ClassVar[bool] = True
    config: MTSACConfig
    settings: SACSettings

    def _build(self) -> None:
        self.settings = settings = sac_settings(self.config, self.spec, self.device)
        self.actor, self.critic, self.policy = settings.actor, settings.critic, settings.policy
        members = [self.seed] * (self.spec.num_tasks if self._separate else 1)
        self.state = init_sac(
            settings, members, self.config.initial_alpha, self.device, self._separate
        )

    def update(self, batch: Batch) -> None:
        """Take one gradient step on ``batch`` ``[1, T, b, ...]``, or ``[1, 1, b, ...]`` where one task has its turn."""
        if self._turn is not None:
            self._update_member(batch)
            return
        metrics = sac_update(self.state, *self.update_inputs(batch))
        self.finish_update(metrics)

    def update_inputs(self, batch: Batch) -> SACInputs:
        """The arguments of the agent's whole update, apart from its state."""
        noise = self._draw(batch)
        data = to_members(batch) if self._separate else batch
        if self._separate:
            noise = to_members(noise)
        pull = None if self._separate else self._rounds.head_pull
        return SACInputs(data, noise, self._settings_now(), self._progress(), pull)

    def stack_key(self) -> Hashable | None:
        if self._separate or self._rounds.head_pull is not None:
            return None
        return self.gradient_steps

    def finish_update(self, metrics: dict[str, Tensor]) -> None:
        """Account for an update."""
        metrics = per_task(metrics) if self._separate else metrics
        self._meter.add(metrics)
        self._rounds.observe(metrics["critic_loss"])
        self._acting = None
        self.gradient_steps += 1

    def _update_member(self, batch: Batch) -> None:
        """One gradient step of the agent whose turn it is."""
        assert self._turn is not None
        task, pull = self._turn
        own = member_settings(self._settings_now(), task)
        metrics = sac_update(
            member(self.state, task), batch, self._draw(batch), own, self._progress(), pull
        )
        self._meter.add(metrics, task)
        self._rounds.observe(metrics["critic_loss"], task)
        self._acting = None
        if not self._turns_left:
            self.gradient_steps += 1

    def _draw(self, batch: Batch) -> SACNoise:
        """The random numbers of one update."""
        shape = (2, *batch.reward.shape, self.policy.noise_size)
        normal = torch.randn(shape, generator=self._noise, device=self.device)
        actor_noise = self._uniform(self.settings.actor_tasks.noise_shape())
        critic_noise = self._uniform(self.settings.critic_tasks.noise_shape())
        # One seed each; with networks for each task they have a row of noise for each, like the batch.
        of_rows = []
        for network in (self.actor, self.critic):
            size = network.body.noise_size
            of_rows.append(self._uniform((*batch.reward.shape[1:], size)) if size else None)
        return SACNoise(normal[0], normal[1], actor_noise, critic_noise, *of_rows)

    def _settings_now(self) -> SACSettings:
        """The settings, with the share of training done where a body depends on it."""
        if not (self.actor.body.uses_share or self.critic.body.uses_share):
            return self.settings
        return replace(self.settings, share=self.share_done)

    def _uniform(self, shape: tuple[int, ...] | None) -> Tensor | None:
        return (
            None
            if shape is None
            else torch.rand((1, *shape), generator=self._noise, device=self.device)
        )

    def _progress(self) -> Progress:
        reductions = (self.settings.actor_tasks, self.settings.critic_tasks)
        return Progress(self.recent_success(reductions), self.gradient_steps, self._rounds.weights)
