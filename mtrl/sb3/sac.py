"""``--method sb3-sac``: Stable-Baselines3's SAC, unchanged."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from mtrl.agents.agent import State
from mtrl.agents.errors import DivergedError
from mtrl.agents.settings import AgentConfig
from mtrl.sb3.agent import SB3Agent
from mtrl.sb3.settings import SB3SACConfig

_ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


class SB3SAC(SB3Agent):
    """SB3's SAC with its ``MlpPolicy``. One ``advance`` is ``train_freq`` vector steps and the updates they pay for."""

    name: ClassVar[str] = "sb3-sac"
    config_class: ClassVar[type[AgentConfig]] = SB3SACConfig
    config: SB3SACConfig

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        model = self.model
        optimizers = {"actor": model.actor.optimizer, "critic": model.critic.optimizer}
        return (
            optimizers
            if model.ent_coef_optimizer is None
            else optimizers | {"ent_coef": model.ent_coef_optimizer}
        )

    @property
    def num_parameters(self) -> int:
        model = self.model
        networks = sum(
            tensor.numel()
            for part in (model.actor, model.critic)
            for tensor in part.parameters()
        )
        return networks + (0 if model.log_ent_coef is None else model.log_ent_coef.numel())

    def check_finite(self) -> None:
        super().check_finite()
        if (
            self.model.log_ent_coef is not None
            and not torch.isfinite(self.model.log_ent_coef).all()
        ):
            raise DivergedError(
                f"log_ent_coef is not finite after {self.gradient_steps} gradient steps"
            )

    def state_dict(self, experience: bool = True) -> State:
        state = super().state_dict(experience)
        if self.model.log_ent_coef is not None:
            state["log_ent_coef"] = self.model.log_ent_coef.detach().clone()
        if experience and self._env is not None:
            buffer = self.model.replay_buffer
            state["buffer"] = {
                name: torch.from_numpy(getattr(buffer, name)[: buffer.size()].copy())
                for name in _ARRAYS
            } | {"pos": buffer.pos, "full": buffer.full}
        return state

    def load_state_dict(self, state: State) -> None:
        super().load_state_dict(state)
        if self.model.log_ent_coef is not None:
            with torch.no_grad():
                self.model.log_ent_coef.copy_(state["log_ent_coef"])
        if "buffer" in state:
            buffer, saved = self.model.replay_buffer, state["buffer"]
            for name in _ARRAYS:
                getattr(buffer, name)[: len(saved[name])] = saved[name].numpy()
            buffer.pos, buffer.full = saved["pos"], saved["full"]

    def _make_model(self, **common: Any) -> Any:
        from stable_baselines3 import SAC

        config = self.config
        target = (
            -float(self.spec.action_dim)
            if config.target_entropy is None
            else config.target_entropy
        )
        return SAC(
            **common,
            learning_rate=config.learning_rate,
            buffer_size=config.buffer_size,
            learning_starts=config.learning_starts,
            batch_size=config.batch_size,
            tau=config.tau,
            gamma=config.gamma,
            train_freq=config.train_freq,
            gradient_steps=config.gradient_steps,
            ent_coef="auto" if config.ent_coef is None else config.ent_coef,
            target_update_interval=config.target_update_interval,
            target_entropy=target,
            policy_kwargs={"net_arch": list(config.net_arch)},
            _init_setup_model=False,
        )

    def _make_buffer(self) -> None:
        model = self.model
        model.replay_buffer = model.replay_buffer_class(
            model.buffer_size,
            model.observation_space,
            model.action_space,
            device=model.device,
            n_envs=model.n_envs,
        )

    def _collect(self, callback: Any) -> None:
        model = self.model
        rollout = model.collect_rollouts(
            model.env,
            callback,
            model.train_freq,
            model.replay_buffer,
            learning_starts=model.learning_starts,
        )
        self._collected = rollout.episode_timesteps

    def _train(self) -> int:
        model = self.model
        if model.num_timesteps > model.learning_starts:
            steps = model.gradient_steps if model.gradient_steps >= 0 else self._collected
            if steps > 0:
                model.train(batch_size=model.batch_size, gradient_steps=steps)
        return int(model._n_updates)
