"""A small environment and a small agent that keep every promise of the real ones, and can be told to misbehave."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray

from mtrl.agents.agent import Agent
from mtrl.agents.errors import DivergedError
from mtrl.agents.settings import AgentConfig, settings
from mtrl.agents.state import Mark
from mtrl.envs import Suite, SuiteError, TaskSpec, TaskVectorEnv
from mtrl.settings.algorithms import Algorithm

HORIZON = 20
ORDER = (0, 2, 1)  # like real suites, not sorted by name
SUITES = {
    f"{name}:fake{kind}": Suite(
        id=f"{name}:fake{kind}",
        family="fake",
        tasks=tuple(
            TaskSpec(f"task-{index}", f"Fake-{index}", HORIZON) for index in ORDER[:tasks]
        ),
        reward_version="v2",
        success="terminated-positive" if kind == "-ends" else "any-step",
        goals="fake",
    )
    for name, tasks in (("mt1", 1), ("mt10", 3))
    for kind in ("", "-inexact", "-ends")
}


class FakeEnv(TaskVectorEnv):
    """A point on a line is pushed toward a goal; success within 0.1 of it. Fixed horizon, or ending at success.

    Suites ``…-inexact`` save only where their streams restarted, like a simulator whose state cannot be read.
    """

    def __init__(
        self,
        suite: Suite,
        envs_per_task: int,
        seed: int,
        goals: str,
        goal_seed: int,
        pace: float,
    ) -> None:
        super().__init__(
            suite, envs_per_task, Box(-10, 10, (3,), np.float32), Box(-1, 1, (2,), np.float32)
        )
        self.backend = "fake"
        self.exact_state = not suite.id.endswith("-inexact")
        self.seed, self.cycle, self.pace = seed, goals == "cycle", pace
        self.goal_set = np.random.default_rng(goal_seed).uniform(-1, 1, (self.num_tasks, 50))
        self.closed_ = False
        self.rebase(0)

    def reset(
        self, *, seed: int | None = None, options: Any = None
    ) -> tuple[NDArray, dict[str, Any]]:
        self.seed = self.seed if seed is None else seed
        self.pause(np.zeros(self.num_tasks, bool))
        return self.rebase(0), {}

    def rebase(self, boundary: int) -> NDArray:
        self.boundary = boundary
        self.episode = np.zeros(self.num_envs, np.int64)
        self.clock = np.zeros(self.num_envs, np.int64)
        self.position = np.zeros(self.num_envs)
        self.goal = np.zeros(self.num_envs)
        self._start(np.ones(self.num_envs, bool))
        return self._obs()

    def _start(self, which: NDArray) -> None:
        for index in np.flatnonzero(which):
            task, env = divmod(int(index), self.envs_per_task)
            stream = np.random.default_rng(
                [self.seed, self.boundary, index, self.episode[index]]
            )
            place = (
                env + self.episode[index] * self.envs_per_task
                if self.cycle
                else stream.integers(50)
            )
            self.goal[index] = self.goal_set[task, place % 50]
            self.position[index] = 0.0 if self.cycle else stream.normal() * 0.1
            self.clock[index] = 0

    def _obs(self) -> NDArray:
        return np.stack([self.position, self.goal, self.clock / HORIZON], 1).astype(np.float32)

    def pause(self, tasks: NDArray) -> None:
        self._set_paused(tasks)

    def step_async(self, actions: NDArray) -> None:
        if np.isnan(actions).any():
            raise SuiteError("actions: NaN in row 0; actions must be finite")
        self._actions = actions

    def step_wait(self) -> tuple[NDArray, NDArray, NDArray, NDArray, dict[str, Any]]:
        time.sleep(self.pace)
        moves = ~np.repeat(self.paused, self.envs_per_task)
        self.position += 0.2 * self._actions[:, 0].astype(np.float64) * moves
        self.clock += moves
        distance = np.abs(self.position - self.goal)
        success = (distance < 0.1) & moves
        terminated = (
            success
            if self.suite.success == "terminated-positive"
            else np.zeros(self.num_envs, bool)
        )
        truncated = (self.clock >= HORIZON) & ~terminated
        done, final_obs = terminated | truncated, self._obs()
        self.episode += done
        self._start(done)
        info = {"success": success.copy(), "final_obs": final_obs, "_final_obs": done}
        return self._obs(), (1.0 - distance) * moves, terminated.copy(), truncated, info

    def start_content(self, index: int) -> bytes:
        return self.goal[index].tobytes()

    def state_dict(self) -> dict[str, NDArray]:
        state = {"boundary": np.array(self.boundary)}
        if self.exact_state:
            state |= {
                name: getattr(self, name).copy()
                for name in ("episode", "clock", "position", "goal", "paused")
            }
        return state

    def load_state_dict(self, state: Mapping[str, NDArray]) -> None:
        self.rebase(int(state["boundary"]))
        for name in set(state) - {"boundary"}:
            getattr(self, name)[:] = state[name]

    def close_extras(self, **kwargs: Any) -> None:
        self.closed_ = True


PACE = 0.0  # seconds per vector step


def make_vec(suite: str, envs_per_task: int = 1, **settings: Any) -> FakeEnv:
    if settings.get("backend", "auto") not in ("auto", "fake"):
        raise SuiteError(f"backend must be one of 'auto', 'fake', not {settings['backend']!r}.")
    seed, goal_seed = settings["seed"], settings.get("goal_seed")
    goal_seed = seed if goal_seed is None else goal_seed
    return FakeEnv(
        get_suite(suite), envs_per_task, seed, settings.get("goals", "random"), goal_seed, PACE
    )


def get_suite(suite_id: str) -> Suite:
    if suite_id not in SUITES:
        raise SuiteError(f"There is no suite {suite_id!r}; the nearest id is 'mt1:fake'.")
    return SUITES[suite_id]


def suite_ids() -> tuple[str, ...]:
    return tuple(SUITES)


@settings
class FakeConfig(AgentConfig):
    """Settings of the fake agent."""

    learning_rate: float = 0.01
    """Step size."""
    widths: tuple[int, ...] = (8, 8)
    """Not used."""
    heads: str = "multi-head"
    """Shown as the architecture."""
    nan_at: int | None = None
    """Env steps at which a parameter becomes NaN."""


EXPERIENCE = Mark(experience=True)


@dataclass(init=False, eq=False)
class FakeState(Agent):
    """The fields are the state."""

    gain: torch.Tensor
    optimizer: dict[str, Any]
    _explore: torch.Generator
    env_steps: int
    gradient_steps: int
    buffer: Annotated[torch.Tensor, EXPERIENCE]
    _obs: Annotated[NDArray | None, EXPERIENCE]


class FakeAgent(FakeState):
    """Learns ``action = gain * (goal - position) + noise`` per task, from a small buffer."""

    name: ClassVar[str] = "fake"
    config_class: ClassVar[type[AgentConfig]] = FakeConfig
    config: FakeConfig

    def __init__(
        self,
        env: Any,
        config: Any = None,
        *,
        seed: int = 0,
        device: Any = "auto",
        **overrides: Any,
    ) -> None:
        super().__init__(env, config, seed=seed, device=device, **overrides)
        generator = torch.Generator().manual_seed(seed)
        self.gain = torch.randn(self.spec.num_tasks, generator=generator)
        self.optimizer = {"momentum": torch.zeros(self.spec.num_tasks), "count": 0}
        self.buffer = torch.zeros(64, 3)
        self._explore = torch.Generator().manual_seed(seed + 1)
        self._obs = None
        self._sum = 0.0

    def advance(self) -> None:
        env = self.env
        if self._obs is None:
            self._obs = env.reset(seed=self.seed)[0]
        action, _ = self.predict(self._obs, task_id=env.task_id)
        self._obs, reward, *_ = env.step(action)
        row = self.env_steps // env.num_envs % len(self.buffer)
        self.buffer[row] = torch.tensor([reward.sum(), self.env_steps, float(action.sum())])
        sample = self.buffer[torch.randint(row + 1, (4,), generator=self._explore)].mean()
        self.optimizer["momentum"] = (
            0.9 * self.optimizer["momentum"] + torch.tanh(sample) - 0.1 * self.gain
        )
        self.optimizer["count"] += 1
        self.gain = self.gain + self.config.learning_rate * self.optimizer["momentum"]
        self._sum += float(sample)
        self.gradient_steps += 1
        self.env_steps += env.num_envs
        if self.config.nan_at is not None and self.env_steps >= self.config.nan_at:
            self.gain[0] = torch.nan

    def predict(
        self,
        observation: NDArray,
        state: Any = None,
        episode_start: NDArray | None = None,
        deterministic: bool = False,
        *,
        task_id: NDArray | None = None,
    ) -> tuple[NDArray, Any]:
        push = self.gain.numpy()[task_id] * (observation[:, 1] - observation[:, 0])
        action = np.stack([push, push], 1)
        if not deterministic:
            action = action + 0.1 * torch.randn(action.shape, generator=self._explore).numpy()
        return np.clip(action, -1, 1).astype(np.float32), None

    def metrics(self) -> dict[str, float]:
        mean, self._sum = self._sum, 0.0
        return {"train/fake_loss": mean, "rollout/success_rate": 0.5}

    def check_finite(self) -> None:
        if not torch.isfinite(self.gain).all():
            raise DivergedError("actor.gain is not finite")

    def rebase(self, boundary: int) -> None:
        self._obs = self.env.rebase(boundary)

    @property
    def num_parameters(self) -> int:
        return self.gain.numel()


ALGORITHM = Algorithm(f"{__name__}:FakeConfig", f"{__name__}:FakeAgent")
