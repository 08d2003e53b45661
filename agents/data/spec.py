"""What an agent needs to know of an environment, and whether two environments agree in it."""

from __future__ import annotations

import dataclasses
from typing import Self

import numpy as np
from gymnasium.spaces import Box, Discrete

from mtrl.agents.errors import AgentError
from mtrl.agents.networks.grid import GridLayout
from mtrl.envs.vector import TaskVectorEnv


@dataclasses.dataclass(frozen=True)
class EnvSpec:
    """What an agent needs to know of an environment to build its networks.

    Attributes:
        action_low, action_high: bounds of continuous actions; empty for discrete ones.
        num_actions: of each task, for discrete actions; a task may have fewer than the suite, the surplus is masked.
        grid: for observations of categories, the fields of their ``GridLayout``; empty for numbers.
    """

    suite: str
    task_names: tuple[str, ...]
    obs_dim: int
    action_low: tuple[float, ...] = ()
    action_high: tuple[float, ...] = ()
    num_actions: tuple[int, ...] = ()
    grid: tuple[int, ...] = ()

    @property
    def layout(self) -> GridLayout | None:
        """Layout of observations of categories; None for numbers."""
        return GridLayout(*self.grid) if self.grid else None

    @property
    def num_tasks(self) -> int:
        return len(self.task_names)

    @property
    def discrete(self) -> bool:
        return bool(self.num_actions)

    @property
    def action_dim(self) -> int:
        """Components of a continuous action, or the number of discrete actions."""
        return max(self.num_actions, default=len(self.action_low))

    @classmethod
    def of(cls, env: TaskVectorEnv) -> Self:
        """Raises AgentError unless observations are flat and actions a bounded flat ``Box`` or ``Discrete``."""
        if not isinstance(env, TaskVectorEnv):
            raise AgentError(
                f"env: a {type(env).__name__} is no TaskVectorEnv; agents need what make_vec returns, without wrappers"
            )
        obs_space, action_space = env.single_observation_space, env.single_action_space
        if not isinstance(obs_space, Box) or len(obs_space.shape) != 1:
            raise AgentError(
                f"env: observation space {obs_space} is not supported; it must be a flat Box"
            )
        suite, obs_dim, grid = env.suite, obs_space.shape[0], grid_of(env)
        if isinstance(action_space, Discrete) and action_space.start == 0:
            counts = tuple(task.num_actions or int(action_space.n) for task in suite.tasks)
            return cls(suite.id, suite.task_names, obs_dim, num_actions=counts, grid=grid)
        if (
            not isinstance(action_space, Box)
            or len(action_space.shape) != 1
            or not action_space.is_bounded()
        ):
            raise AgentError(
                f"env: {suite.id} has action space {action_space}; agents need a bounded flat Box, or Discrete from 0"
            )
        low = tuple(action_space.low.tolist())
        high = tuple(action_space.high.tolist())
        return cls(suite.id, suite.task_names, obs_dim, low, high, grid=grid)

    def check_same(self, other: EnvSpec) -> None:
        """Raise AgentError unless an agent built for this specification can go on with ``other``."""
        kinds = {True: "discrete", False: "continuous"}
        if other.discrete != self.discrete:
            theirs, ours = kinds[other.discrete], kinds[self.discrete]
            raise AgentError(
                f"env: {other.suite} has {theirs} actions, but this agent was built for {ours} ones"
            )
        if other.grid != self.grid or other.obs_dim != self.obs_dim:
            raise AgentError(
                f"env: {other.suite} has observations of {other.obs_dim} entries, laid out otherwise than the "
                f"{self.obs_dim} that this agent was built for"
            )
        for field in dataclasses.fields(other):
            old, new = getattr(self, field.name), getattr(other, field.name)
            if old != new and field.name != "suite":
                raise AgentError(
                    f"env: {field.name} is {new!r}, but this agent was built for {old!r}"
                )


def grid_of(env: TaskVectorEnv) -> tuple[int, ...]:
    """Fields of the ``GridLayout`` of an environment with observations of categories, else ().

    Raises:
        AgentError: the observations are bytes of an unknown layout, or of another size than the layout says.
    """
    space = env.single_observation_space
    layout = getattr(env, "obs_layout", None)
    if layout is None:
        if space.dtype == np.uint8:
            raise AgentError(
                f"env: {env.suite.id} observes bytes without an obs_layout that says what they mean"
            )
        return ()
    objects, colors, states = layout.channels
    grid = GridLayout(
        objects, colors, states, layout.directions, layout.mission_words, layout.vocabulary
    )
    if space.shape != (grid.num_bytes,):
        raise AgentError(
            f"env: {env.suite.id} observes {space.shape}, but a 7 x 7 view, direction and {grid.words} mission words "
            f"have {grid.num_bytes} bytes"
        )
    return grid
