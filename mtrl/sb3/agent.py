"""What SB3's SAC and PPO need to be agents of ours: random streams of their own, state without pickle, task ids."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from mtrl.agents.agent import Agent, EnvSpec, State
from mtrl.agents.common import obs_rows, task_ids
from mtrl.agents.data.tracking import EpisodeTracker
from mtrl.agents.errors import AgentError, DivergedError
from mtrl.agents.settings import AgentConfig
from mtrl.agents.state import restore, to_dict
from mtrl.envs import TaskVectorEnv
from mtrl.sb3.encoding import SB3Spec
from mtrl.sb3.missing import require
from mtrl.sb3.streams import Streams


class SB3Agent(Agent):
    """A stock SB3 algorithm that trains in ``SB3VecEnv``: SB3's networks, losses, buffers and collection.

    Only the outer loop is ours, so that one ``advance`` is one of SB3's collections and the training that follows it.
    SB3 draws from the global generators; here those are swapped for streams of the agent's own while SB3 runs, so runs
    are reproducible and resume bit for bit. Nothing is pickled: parameters, optimizer moments, buffer and streams go
    into checkpoints as arrays.

    Attributes:
        model: the SB3 algorithm.
    """

    spec_class: ClassVar[type[EnvSpec]] = SB3Spec
    spec: SB3Spec

    def __init__(
        self,
        env: TaskVectorEnv | EnvSpec,
        config: AgentConfig | None = None,
        *,
        seed: int = 0,
        device: str | torch.device = "auto",
        **overrides: Any,
    ) -> None:
        require(self.name)
        super().__init__(env, config, seed=seed, device=device, **overrides)
        self._streams = Streams(self.device)
        self._sums: dict[str, tuple[float, int]] = {}
        self._episodes: EpisodeTracker | None = None
        self._vec: Any = None
        self._bridge: Any = None
        with self._streams:
            self.model = self._build()
        self._bind()

    @property
    @abstractmethod
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """SB3's optimizers, by name."""

    @abstractmethod
    def _make_model(self, **common: Any) -> Any:
        """The algorithm with this agent's settings and ``common`` arguments; its networks come later."""

    @abstractmethod
    def _make_buffer(self) -> None:
        """Give the model an empty buffer for its number of environments."""

    @abstractmethod
    def _collect(self, callback: Any) -> None:
        """SB3's own collection."""

    @abstractmethod
    def _train(self) -> int:
        """Call SB3's own ``train`` on the collected data. Returns all optimizer steps so far."""

    def _build(self) -> Any:
        from stable_baselines3.common.logger import Logger

        model = self._make_model(
            policy="MlpPolicy", env=None, seed=self.seed, device=self.device
        )
        model.observation_space = self.spec.encoded_space()
        model.action_space = action_space(self.spec)
        model.n_envs = 1 if self._env is None else self._env.num_envs
        model.set_logger(Logger(None, []))
        model._setup_model()
        # SB3's own statistics.
        model.ep_info_buffer, model.ep_success_buffer = (
            deque(maxlen=1),
            deque(maxlen=1),
        )
        # SB3 divides by it for schedules, and all of them are constant here.
        model._total_timesteps = 1
        return model

    def _bind(self) -> None:
        """Show the environment, if there is one, to the model."""
        if self._env is None:
            return
        from mtrl.sb3.callback import Bridge
        from mtrl.sb3.vec_env import SB3VecEnv

        self._vec = SB3VecEnv(self._env)
        self._vec.seed(self.seed)
        self.model.env, self.model._last_obs = self._vec, None
        if self.model.n_envs != self._env.num_envs:
            self.model.n_envs = self._env.num_envs
            self._make_buffer()
        self._bridge = self.model._init_callback(Bridge(self))
        self._bridge.on_training_start({}, {})

    def set_env(self, env: TaskVectorEnv) -> None:
        super().set_env(env)
        self._episodes = None
        self._bind()

    def advance(self) -> None:
        """Run one of SB3's collections and the training that follows it."""
        self._collector()
        try:
            with self._streams:
                self._collect(self._bridge)
                self.gradient_steps = self._train()
        except ValueError:
            self.check_finite()  # SB3's distributions refuse NaN parameters, which is how divergence shows first
            raise
        self._note_losses()

    def record_step(self, reward: NDArray, done: NDArray, infos: list[dict[str, Any]]) -> None:
        """Account for one vector step that SB3 took, and tell the callbacks of ``learn``; arrays ``[num_envs]``."""
        _, episodes = self._collector()
        success = np.array([info["success"] for info in infos])
        episodes.add(reward, success, done)
        self.env_steps = self.model.num_timesteps
        truncated = done & np.array([info.get("TimeLimit.truncated", False) for info in infos])
        final_obs = [info.get("terminal_observation") for info in infos]
        self._hooks.step(
            reward, done & ~truncated, truncated, {"success": success, "final_obs": final_obs}
        )

    def end_rollout(self) -> None:
        """Tell the callbacks of ``learn`` that SB3's collection is complete."""
        self._hooks.rollout_end()

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
        encoded = self.spec.encode(rows, task_ids(self.spec, self._env, len(rows), task_id))
        with self._streams:
            action, _ = self.model.predict(encoded, deterministic=deterministic)
        return (action[0] if np.ndim(observation) == 1 else action), None

    def metrics(self) -> dict[str, float]:
        self.check_finite()
        means = {key: total / count for key, (total, count) in self._sums.items()}
        self._sums = {}
        for key, value in means.items():
            if not np.isfinite(value):
                raise DivergedError(f"{key} is {value}")
        return means | (self._episodes.drain() if self._episodes is not None else {})

    def check_finite(self) -> None:
        for name, tensor in self.model.policy.state_dict().items():
            if not torch.isfinite(tensor).all():
                raise DivergedError(
                    f"{name} is not finite after {self.gradient_steps} gradient steps"
                )

    def rebase(self, boundary: int) -> None:
        """Restart the collection; no rollout is under way between two calls of ``advance``."""
        vec, episodes = self._collector()
        self.model._last_obs = vec.restarted(self.env.rebase(boundary))
        self.model._last_episode_starts = np.ones(self.env.num_envs, bool)
        episodes.restart()

    def state_dict(self, experience: bool = True) -> State:
        state: State = {
            "policy": dict(self.model.policy.state_dict()),
            "optimizers": {
                name: {
                    str(index): dict(moments)
                    for index, moments in optimizer.state_dict()["state"].items()
                }
                for name, optimizer in self.optimizers.items()
            },
            "streams": self._streams.state_dict(),
            "action_stream": self.model.action_space.np_random.bit_generator.state,
            "env_steps": self.env_steps,
            "gradient_steps": self.gradient_steps,
            "updates": self.model._n_updates,
        }
        if experience and self._env is not None:
            vec, episodes = self._collector()
            state["episodes"] = to_dict(episodes)
            state["obs"] = torch.from_numpy(self.model._last_obs.copy())
            state["episode_starts"] = torch.from_numpy(
                np.array(self.model._last_episode_starts)
            )
            state["ever"] = torch.from_numpy(vec.ever.copy())
        return state

    def load_state_dict(self, state: State) -> None:
        model = self.model
        try:
            model.policy.load_state_dict(state["policy"])
        except RuntimeError as error:
            raise AgentError(
                f"state: does not fit {self.name} with these settings ({error})"
            ) from None
        for name, optimizer in self.optimizers.items():
            moments = state.get("optimizers", {}).get(name, {})
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict(
                {"state": {int(i): m for i, m in moments.items()}, "param_groups": groups}
            )
        self._streams.load_state_dict(state["streams"])
        model.action_space.np_random.bit_generator.state = state["action_stream"]
        self.env_steps, self.gradient_steps = state["env_steps"], state["gradient_steps"]
        model.num_timesteps, model._n_updates = state["env_steps"], state["updates"]
        if "obs" in state:
            model._last_obs = state["obs"].numpy().copy()
            model._last_episode_starts = state["episode_starts"].numpy().copy()
            vec, episodes = self._collector()
            vec.ever[:] = state["ever"].numpy()
            restore(episodes, state["episodes"])

    def _collector(self) -> tuple[Any, EpisodeTracker]:
        """Adapter and tracker, with the present observation. They are made at first use, since prediction needs
        none."""
        env, model = self.env, self.model
        if self._episodes is None:
            self._episodes = EpisodeTracker(self.spec.task_names, env.envs_per_task)
        if model._last_obs is None:
            model._last_obs = self._vec.reset()
            model._last_episode_starts = np.ones(env.num_envs, bool)
        return self._vec, self._episodes

    def _note_losses(self) -> None:
        """Add what SB3 logged in its last training to the means; ``train/n_updates`` only repeats a counter."""
        logged = self.model.logger.name_to_value
        for key, value in logged.items():
            if key.startswith("train/") and key != "train/n_updates":
                total, count = self._sums.get(key, (0.0, 0))
                self._sums[key] = (total + float(value), count + 1)
        logged.clear()


def action_space(spec: EnvSpec) -> Box | Discrete:
    """A copy of an environment's action space, so that SB3's seeding changes no other copy."""
    if spec.discrete:
        return Discrete(spec.action_dim)
    return Box(
        np.array(spec.action_low, np.float32),
        np.array(spec.action_high, np.float32),
        dtype=np.float32,
    )
