"""``--method sb3-ppo``: Stable-Baselines3's PPO, unchanged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch

from mtrl.agents.base import AgentConfig
from mtrl.agents.errors import AgentError
from mtrl.sb3.agent import SB3Agent
from mtrl.sb3.checks import require_above, require_at_least, require_share


@dataclass(frozen=True)
class SB3PPOConfig(AgentConfig):
    """Settings of SB3's PPO under SB3's names, with its defaults. Raises AgentError for values out of range."""

    net_arch: tuple[int, ...] = (64, 64)
    """Units of the hidden layers, of actor and critic each; tanh between them."""
    learning_rate: float = 3e-4
    """Adam step size."""
    n_steps: int = 2048
    """Env steps per environment between updates."""
    batch_size: int = 64
    """Samples in a minibatch, of all tasks together."""
    n_epochs: int = 10
    """Passes over a rollout."""
    gamma: float = 0.99
    """Discount per env step."""
    gae_lambda: float = 0.95
    """Decay of the advantage estimates (GAE)."""
    clip_range: float = 0.2
    """Range of the probability ratio around 1."""
    clip_range_vf: float | None = None
    """Range in which the value may change in an update; none leaves it free."""
    normalize_advantage: bool = True
    """Whether to scale the advantages of a minibatch to mean 0 and standard deviation 1."""
    ent_coef: float = 0.0
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 0.5
    """Gradient norm clip."""
    target_kl: float | None = None
    """Epochs end where the divergence from the old policy exceeds 1.5 times this; none never stops early."""

    def __post_init__(self) -> None:
        require_at_least(self, 1, "n_steps", "n_epochs", *(["batch_size"] if not self.normalize_advantage else []))
        require_at_least(self, 2, *(["batch_size"] if self.normalize_advantage else []))
        require_above(self, 0, "learning_rate", "clip_range", "clip_range_vf", "max_grad_norm", "target_kl")
        require_share(self, "gamma", "gae_lambda")
        require_at_least(self, 0, "ent_coef", "vf_coef")
        if any(units < 1 for units in self.net_arch):
            raise AgentError(f"net_arch: {list(self.net_arch)} has a layer without units")

    def brief(self, envs_per_task: int) -> Self:
        """Short rollouts, in minibatches of the same size, with as many passes."""
        enough = -(-self.batch_size // envs_per_task)  # to fill a minibatch
        return replace(self, n_steps=min(self.n_steps, max(self.n_steps // 16, enough)))


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
