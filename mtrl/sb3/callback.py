"""How SB3's collection reports to an agent of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

if TYPE_CHECKING:
    from mtrl.sb3.agent import SB3Agent


class Bridge(BaseCallback):
    """Hands each vector step that SB3 takes to the agent, and through it to the callbacks of ``learn``."""

    def __init__(self, agent: SB3Agent) -> None:
        super().__init__()
        self.agent = agent

    def _on_step(self) -> bool:
        infos, reward, done = (self.locals[name] for name in ("infos", "rewards", "dones"))
        success = np.array([info["success"] for info in infos])
        self.agent.record_step(reward, success, done)
        return True
