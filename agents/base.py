"""The verbs every agent has, and the one training loop all of them share."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
from numpy.typing import NDArray
from torch import Tensor

from envs import TaskVectorEnv

State = dict[str, Any]
Callback = Callable[["Agent"], bool | None]


class AgentError(ValueError):
    """A setting, space or file that the agent cannot work with; the message says what is allowed."""


class DivergedError(RuntimeError):
    """A parameter or a loss is no longer finite; the message names which."""


@dataclasses.dataclass(frozen=True)
class AgentConfig:
    """Base of all agent settings. Frozen: a run never changes its own settings."""


class Agent(ABC):
    """A task-conditioned agent bound to one task-major vector environment.

    Attributes:
        env_steps: environment steps taken so far, summed over tasks.
        gradient_steps: optimiser updates taken so far.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[AgentConfig]]
    config: AgentConfig
    env: TaskVectorEnv
    seed: int
    device: torch.device
    env_steps: int
    gradient_steps: int

    def learn(self, total_env_steps: int, callback: Callback | None = None) -> Self:
        """Train until ``env_steps`` reaches ``total_env_steps``.

        Args:
            total_env_steps: env steps summed over tasks, counted from the agent's creation; calling again with a larger
                number continues.
            callback: called after every ``advance``, when the transitions are stored; returning False stops.

        Raises:
            DivergedError: from ``metrics``, when a loss is not finite.
        """
        while self.env_steps < total_env_steps:
            self.advance()
            if callback is not None and callback(self) is False:
                break
        return self

    @abstractmethod
    def advance(self) -> None:
        """Collect the next piece of experience (one vector step, or one rollout) and do the updates it pays for."""

    @abstractmethod
    def predict(
        self,
        observation: NDArray,
        state: Any = None,
        episode_start: NDArray | None = None,
        deterministic: bool = False,
        *,
        task_id: NDArray | None = None,
    ) -> tuple[NDArray, Any]:
        """Actions for ``observation``, ``[n, D]`` or ``[D]``, and the next memory state (None without memory).

        Args:
            task_id: int ``[n]``. May be left out when the rows are those of the agent's own environment, or when the
                suite has one task. Takes no part in training's random streams if ``deterministic``.
        """

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """Means of everything logged since the last call, keyed ``train/…`` or ``rollout/…``. Syncs the device.

        Raises:
            DivergedError: a logged value is not finite.
        """

    @abstractmethod
    def check_finite(self) -> None:
        """Raise DivergedError, naming the tensor, if any parameter or optimiser state is not finite."""

    @abstractmethod
    def rebase(self, boundary: int) -> None:
        """Restart the collection at a checkpoint boundary, for environments without an exact state."""

    @abstractmethod
    def state_dict(self) -> State:
        """All that affects the next ``advance`` (environment apart): nested dicts of tensors and JSON scalars."""

    @abstractmethod
    def load_state_dict(self, state: State) -> None:
        """Continue exactly from ``state_dict()``."""

    @abstractmethod
    def policy_state(self) -> dict[str, Tensor]:
        """The tensors ``predict`` needs; what ``save`` writes."""

    @abstractmethod
    def load_policy_state(self, state: dict[str, Tensor]) -> None: ...

    @property
    @abstractmethod
    def num_parameters(self) -> int:
        """Trainable parameters, target networks not counted."""

    def set_env(self, env: TaskVectorEnv) -> None:
        """Continue in another environment of the same suite and size."""
        if env.suite.task_names != self.env.suite.task_names or env.num_envs != self.env.num_envs:
            raise AgentError(
                f"env: {env.suite.id} with {env.num_envs} environments cannot replace {self.env.suite.id} with "
                f"{self.env.num_envs}; the tasks and the number of environments must be the same"
            )
        self.env = env
        self.rebase(0)
