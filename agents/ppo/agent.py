"""MTPPO: task-conditioned PPO with minibatches that hold equally many samples of every task."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from mtrl.agents.curricula.coupling import Features, Pull
from mtrl.agents.data.rollout import Rollout
from mtrl.agents.members import Networks, member, to_members
from mtrl.agents.on_policy import OnPolicyAgent
from mtrl.agents.ppo.build import ppo_settings
from mtrl.agents.ppo.minibatches import Epochs
from mtrl.agents.ppo.settings import MTPPOConfig
from mtrl.agents.ppo.update import (
    Pass,
    PassResult,
    PPOInputs,
    PPOSettings,
    PPOState,
    Progress,
    RecordedPass,
    init_ppo,
    ppo_update,
    recordable_pass,
)
from mtrl.agents.settings import AgentConfig


class MTPPO(OnPolicyAgent):
    """Task-conditioned PPO, for bounded ``Box`` and for ``Discrete`` actions.

    Continuous actions are Gaussian with a standard deviation per task and component, whatever the state. They are
    clipped on their way into the environment; densities are of the unclipped action, each by itself also where noise is
    correlated. Advantages stop where an episode ends, and a truncated one bootstraps from its own last observation.

    >>> from mtrl import MTPPO, make_vec
    >>> MTPPO(make_vec("mt1:reach-v3", seed=0), width=64, rollout_per_task=500).learn(1_000).env_steps
    1000
    """

    name: ClassVar[str] = "mtppo"
    config_class: ClassVar[type[AgentConfig]] = MTPPOConfig
    discrete_actions: ClassVar[bool] = True
    config: MTPPOConfig
    settings: PPOSettings

    def _build(self) -> None:
        self.settings = ppo_settings(self.config, self.spec, self.device)

    def _fresh(self, seed: int) -> Networks:
        seeds = [seed] * self._lead[0]
        return init_ppo(self.settings, seeds, self.config.initial_std, self.device)

    @property
    def _draws_by_share(self) -> bool:
        return self.settings.sampling.anneals

    @property
    def acting_dtype(self) -> torch.dtype:
        # Where networks are small and steps quick, acting in the arithmetic of updates is worth it.
        return torch.float32 if self.spec.layout is None else self.settings.dtype

    def update(self, rollout: Rollout) -> None:
        """Learn from ``rollout`` ``[1, T, L, E, ...]``, with draws from the agent's stream."""
        if self._rounds.coupled:
            self._update_in_turn(to_members(rollout), self._features_of(rollout))
            return
        self.finish_update(*self.run_update(self.state, self.update_inputs(rollout)))

    def run_update(self, state: PPOState, inputs: PPOInputs) -> tuple[dict[str, Tensor], int]:
        """``ppo_update`` of one seed or several, with recorded passes where that is asked for."""
        return ppo_update(state, *inputs, recorded=self._recorded and self._pass)

    def _pass(self, state: PPOState, data: Pass) -> PassResult:
        assert self._recorded is not None
        # The schedule changes the step size, so it is an input like any other.
        assert isinstance(data.learning_rate, float)
        rate = torch.full((), data.learning_rate, dtype=torch.float32, device=self.device)
        result: PassResult = self._recorded(state, data._replace(learning_rate=rate))
        return result

    def _recordable(self) -> RecordedPass:
        return recordable_pass(self.settings)

    def update_inputs(self, rollout: Rollout) -> PPOInputs:
        """The arguments of the agent's whole update, apart from its state."""
        data = to_members(rollout) if self._separate else rollout
        return self._inputs(data, self.settings, self._rounds.head_pull)

    def finish_update(self, metrics: dict[str, Tensor], steps: int) -> None:
        """Account for an update of ``steps`` minibatches."""
        self._epochs.keep(steps)
        self._note(metrics)
        self.gradient_steps += steps

    def stack_key(self) -> Hashable | None:
        # Seeds end their passes apart, so some would have no update of the method that alternates.
        if self._updates_alone or self._alternates:
            return None
        # Steps so far differ between seeds that met the KL limit; averaging does not look at them.
        averages = self.settings.actor_tasks.is_mean and self.settings.critic_tasks.is_mean
        steps = None if averages else self.gradient_steps
        return self._step_size, steps, self._rounds.plan.period

    def _update_in_turn(self, parts: Rollout, features: Features) -> None:
        """Every task's agent learns from its part ``[T, 1, L, E, ...]``, in the order of the curriculum."""
        most = 0
        for _ in range(self.spec.num_tasks):
            self._rounds.next_turn(self.state, features)
            task, pull = self._rounds.seat(self.state)
            own = replace(self.settings, policy=self.settings.policy.of_task(task))
            inputs = self._inputs(member(parts, task), own, pull)
            metrics, steps = ppo_update(member(self.state, task), *inputs)
            self._epochs.keep(steps)
            self._note(metrics, task)
            most = max(most, steps)
        self.gradient_steps += most

    def _inputs(self, rollout: Rollout, settings: PPOSettings, pull: Pull | None) -> PPOInputs:
        settings = self._settings_now(settings)
        networks = settings.actor, settings.critic
        noise_shapes = [reduction.noise_shape() for reduction in self._reductions()]
        lead, together = rollout.reward.shape[:2], max(self.sequence, 1)
        self._epochs = Epochs(
            lead, self.config, together, noise_shapes, networks, self._shuffle, self._within
        )
        progress = Progress(self._recent_success(), self.gradient_steps, self._rounds.weights)
        return PPOInputs(rollout, self._epochs, self._step_size, settings, progress, pull)
