"""``--method sb3-ppo``: Stable-Baselines3's PPO, unchanged."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from mtrl.agents.settings import AgentConfig
from mtrl.sb3.agent import SB3Agent
from mtrl.sb3.settings import SB3PPOConfig


class SB3PPO(SB3Agent):
    """SB3's PPO with its ``MlpPolicy``. One ``advance`` is a rollout of ``n_steps`` vector steps and its epochs."""

    name: ClassVar[str] = "sb3-ppo"
    config_class: ClassVar[type[AgentConfig]] = SB3PPOConfig
    discrete_actions: ClassVar[bool] = True
    config: SB3PPOConfig

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"policy": self.model.policy.optimizer}

    @property
    def num_parameters(self) -> int:
        return sum(tensor.numel() for tensor in self.model.policy.parameters())

    def ends_at(self, total: int) -> int | None:
        return self._in_pieces(total, self.config.n_steps * self.env.num_envs)

    def _make_model(self, **common: Any) -> Any:
        from stable_baselines3 import PPO

        config = self.config
        return PPO(
            **common,
            learning_rate=config.learning_rate,
            n_steps=config.n_steps,
            batch_size=config.batch_size,
            n_epochs=config.n_epochs,
            gamma=config.gamma,
            gae_lambda=config.gae_lambda,
            clip_range=config.clip_range,
            clip_range_vf=config.clip_range_vf,
            normalize_advantage=config.normalize_advantage,
            ent_coef=config.ent_coef,
            vf_coef=config.vf_coef,
            max_grad_norm=config.max_grad_norm,
            target_kl=config.target_kl,
            policy_kwargs={"net_arch": list(config.net_arch)},
            _init_setup_model=False,
        )

    def _make_buffer(self) -> None:
        model = self.model
        model.rollout_buffer = model.rollout_buffer_class(
            model.n_steps,
            model.observation_space,
            model.action_space,
            device=model.device,
            gamma=model.gamma,
            gae_lambda=model.gae_lambda,
            n_envs=model.n_envs,
        )

    def _collect(self, callback: Any) -> None:
        model = self.model
        model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)

    def _train(self) -> int:
        self.model.train()
        moments = self.model.policy.optimizer.state_dict()["state"]
        return int(moments[0]["step"])  # SB3's own counter counts epochs
