"""Between SB3's callbacks and our agents: how SB3's collection reports, and a log under SB3's names."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from stable_baselines3.common.callbacks import BaseCallback

from mtrl.agents.callbacks import LearningStopped

if TYPE_CHECKING:
    from mtrl.sb3.agent import SB3Agent

# SB3's names for quantities that an agent logs under another; the rest have the same name in both.
SB3_NAMES = {
    "mtsac": {"train/alpha": "train/ent_coef"},
    "mtppo": {
        "train/actor_loss": "train/policy_gradient_loss",
        "train/critic_loss": "train/value_loss",
    },
}


class Bridge(BaseCallback):
    """Hands each vector step that SB3 takes to the agent, and through it to the callbacks of ``learn``."""

    def __init__(self, agent: SB3Agent) -> None:
        super().__init__()
        self.agent = agent

    def _on_step(self) -> bool:
        model, infos, reward, done = (
            self.locals[name] for name in ("self", "infos", "rewards", "dones")
        )
        try:
            self.agent.record_step(reward, done, infos)
        except LearningStopped:
            # SB3 leaves a stopped collection without noting where the environments are.
            model._last_obs, model._last_episode_starts = self.locals["new_obs"], done
            raise
        return True

    def _on_rollout_end(self) -> None:
        self.agent.end_rollout()


class LogCallback(BaseCallback):
    """Writes an agent's metrics to its logger (``agent.set_logger``) under SB3's key names.

    Besides ``rollout/...`` and ``train/...`` (and the same per task, as ``.../<task>``), the logger gets ``time/fps``,
    ``time/time_elapsed`` and ``time/total_timesteps``.

    Args:
        every: env steps between log points; each falls on the end of a rollout.
    """

    def __init__(self, every: int = 10_000) -> None:
        super().__init__()
        self.every = every
        self._due = 0
        self._began, self._steps_before = 0.0, 0

    def _on_training_start(self) -> None:
        self._began, self._steps_before = time.monotonic(), self.num_timesteps
        self._due = self.num_timesteps + self.every

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.num_timesteps >= self._due:
            self._due = self.num_timesteps + self.every
            self._dump()

    def _on_training_end(self) -> None:
        self._dump()

    def _dump(self) -> None:
        agent: Any = self.model
        names = SB3_NAMES.get(agent.name, {})
        for key, value in agent.metrics().items():
            self.logger.record(names.get(key, key), value)
        elapsed = max(time.monotonic() - self._began, 1e-9)
        self.logger.record("time/fps", int((self.num_timesteps - self._steps_before) / elapsed))
        self.logger.record("time/time_elapsed", int(elapsed), exclude="tensorboard")
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.num_timesteps)
