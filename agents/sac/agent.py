"""MTSAC: task-conditioned soft actor-critic with an equal batch per task and a temperature per task.

Defaults are the reference settings that the field reports on Meta-World (Yu et al. 2020; McLean et al. 2025):
multi-head 400x3 networks, twin critics, Adam 3e-4, one update per vector step.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import ClassVar

import torch
from torch import Tensor

from mtrl.agents.data.replay import Batch
from mtrl.agents.members import Networks, member, to_members
from mtrl.agents.off_policy import OffPolicyAgent
from mtrl.agents.sac.build import member_settings, sac_settings
from mtrl.agents.sac.settings import MTSACConfig
from mtrl.agents.sac.update import (
    Progress,
    Recordable,
    SACInputs,
    SACNoise,
    SACResult,
    SACSettings,
    SACState,
    init_sac,
    recordable_update,
    sac_update,
)
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
        self.settings = sac_settings(self.config, self.spec, self.device)

    def _fresh(self, seed: int) -> Networks:
        seeds, alpha = [seed] * self._lead[0], self.config.initial_alpha
        return init_sac(self.settings, seeds, alpha, self.device, self._separate)

    def update(self, batch: Batch) -> None:
        """Take one gradient step on ``batch`` ``[1, T, b, ...]``, or ``[1, 1, b, ...]`` where one task has its turn."""
        if self._turn is not None:
            self._update_member(batch)
            return
        result = self.run_update(self.state, self.update_inputs(batch))
        self.finish_update(batch, result)

    def run_update(self, state: SACState, inputs: SACInputs) -> SACResult:
        """``sac_update`` of one seed or several, recorded where that is asked for."""
        if self._recorded is None or inputs.pull is not None:
            return sac_update(state, *inputs)
        progress = inputs.progress
        varying = Recordable(inputs.batch, inputs.noise, progress.success, progress.weights)
        result: SACResult = self._recorded(state, varying)
        return result

    def _recordable(self) -> Callable[[SACState, Recordable], SACResult]:
        return recordable_update(self.settings)

    def update_inputs(self, batch: Batch) -> SACInputs:
        """The arguments of the agent's whole update, apart from its state."""
        noise, pull = self._draw(batch), self._rounds.head_pull
        if self._separate:
            batch, noise, pull = to_members(batch), to_members(noise), None
        return SACInputs(
            batch, noise, self._settings_now(self.settings), self._progress(), pull
        )

    def stack_key(self) -> Hashable | None:
        return None if self._updates_alone else self.gradient_steps

    def finish_update(self, batch: Batch, result: SACResult) -> None:
        """Account for an update by ``batch``."""
        self._note(result.metrics)
        self._prioritise(batch, result.errors)
        self._acting = None
        self.gradient_steps += 1

    def _update_member(self, batch: Batch) -> None:
        """One gradient step of the agent whose turn it is."""
        assert self._turn is not None
        task, pull = self._turn
        own = member_settings(self._settings_now(self.settings), task)
        result = sac_update(
            member(self.state, task), batch, self._draw(batch), own, self._progress(), pull
        )
        self._note(result.metrics, task)
        self._prioritise(batch, result.errors, task)
        self._acting = None
        if not self._turns_left:
            self.gradient_steps += 1

    def _draw(self, batch: Batch) -> SACNoise:
        """The random numbers of one update."""
        rows = batch.reward.shape[1:]
        shape = (2, *batch.reward.shape, self.policy.noise_size)
        normal = torch.randn(shape, generator=self._noise, device=self.device)
        askers = (
            self.settings.actor_tasks.noise_shape(),
            self.settings.critic_tasks.noise_shape(),
        )
        bodies = self.actor.noise_shape(rows), self.critic.noise_shape(rows)
        redraws = [(rows[0], net.num_redrawn) for net in (self.actor, self.critic)]
        after = [each if each[1] else None for each in redraws]
        uniform = [self._uniform(each) for each in (*askers, *bodies, *after)]
        return SACNoise(normal[0], normal[1], *uniform)

    def _uniform(self, shape: tuple[int, ...] | None) -> Tensor | None:
        if shape is None:
            return None
        return torch.rand((1, *shape), generator=self._noise, device=self.device)

    def _progress(self) -> Progress:
        return Progress(self._recent_success(), self.gradient_steps, self._rounds.weights)
