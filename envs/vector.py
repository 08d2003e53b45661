"""The task-major vector environment, the only interface that agents, evaluator and trainer use.

Environment ``i`` belongs to task ``i // envs_per_task``; reshaping any array ``[num_envs, ...]`` to
``[num_tasks, envs_per_task, ...]`` is a view. Episodes end and restart inside one ``step``
(``AutoresetMode.SAME_STEP``): the returned observation is already the first one of the next episode and the true last
one is in ``info["final_obs"]``, so no artificial reset transition exists that could enter a buffer.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from mtrl.envs.errors import SuiteError
from mtrl.envs.specs import Suite

Info = dict[str, Any]


class TaskVectorEnv(VectorEnv):
    """Base of every backend.

    ``step`` returns ``(obs, reward, terminated, truncated, info)`` with shapes ``[num_envs, D]`` float32 (uint8 for
    MiniGrid), ``[num_envs]`` float64, ``[num_envs]`` bool, ``[num_envs]`` bool. ``info`` always holds

    * ``success``: bool ``[num_envs]``, success at this very step;
    * ``final_obs``: same shape and dtype as ``obs``; for environments whose episode ended in this step the true last
      observation, elsewhere equal to ``obs``. It is therefore always a valid ``next_obs``;
    * ``_final_obs``: bool ``[num_envs]``, where an episode ended in this step.

    Returned arrays are fresh copies that the caller owns.

    Attributes:
        suite: the suite's specification.
        backend: name of the engine, written into every record.
        task_id: int64 ``[num_envs]``, the task of each environment.
        paused: bool ``[num_tasks]``, which tasks stand still, see ``pause``.
        exact_state: whether ``state_dict`` captures episodes in progress exactly. Where it is False, a checkpoint must
            be taken right after ``rebase`` (see there).
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - gymnasium's own declaration
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "render_modes": ["rgb_array"],
    }
    backend: str = ""
    exact_state: bool = False

    def __init__(
        self, suite: Suite, envs_per_task: int, observation_space: Space, action_space: Space
    ) -> None:
        self.suite = suite
        self.envs_per_task = envs_per_task
        self.num_tasks = suite.num_tasks
        self.num_envs = suite.num_tasks * envs_per_task
        self.task_id: NDArray[np.int64] = np.repeat(np.arange(suite.num_tasks), envs_per_task)
        self.paused: NDArray[np.bool_] = np.zeros(suite.num_tasks, np.bool_)
        self.single_observation_space = observation_space
        self.single_action_space = action_space
        self.observation_space = batch_space(observation_space, self.num_envs)
        self.action_space = batch_space(action_space, self.num_envs)

    def step(self, actions: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray, Info]:
        self.step_async(actions)
        return self.step_wait()

    @abstractmethod
    def step_async(self, actions: NDArray) -> None:
        """Begin a step and return at once, so that the caller can compute in the meantime.

        The result of ``step_async`` followed by ``step_wait`` never depends on what happens in between.
        """

    @abstractmethod
    def step_wait(self) -> tuple[NDArray, NDArray, NDArray, NDArray, Info]:
        """Finish the step begun by ``step_async``."""

    def pause(self, tasks: NDArray[np.bool_]) -> None:
        """Pause the environments of some tasks, from the next step until the next call or ``reset``.

        Paused environments ignore their action and cost no time. They return their last observation, reward 0, no
        success and no end. Their episodes continue once the pause ends; ``rebase`` starts new ones as everywhere.

        Args:
            tasks: bool ``[num_tasks]``, True where a task is to stand still.

        Raises:
            SuiteError: another shape or type, a step under way, or a backend whose tasks can only step together.
        """
        raise SuiteError(f"pause: tasks of backend {self.backend!r} can only step together.")

    def _set_paused(self, tasks: NDArray[np.bool_]) -> None:
        """Check the argument of ``pause`` and keep it, for backends that offer it."""
        given = np.asarray(tasks)
        if given.shape != (self.num_tasks,) or given.dtype != np.bool_:
            raise SuiteError(
                f"pause: tasks must be bool of shape ({self.num_tasks},), not {given.dtype} of shape {given.shape}."
            )
        self.paused = given.copy()

    def hold(self, rows: NDArray[np.bool_]) -> None:
        """Let single environments stand still in the next step: reward 0, no end, the last observation again.

        Args:
            rows: bool ``[num_envs]``.

        Raises:
            SuiteError: a backend whose environments can only step together.
        """
        raise SuiteError(f"hold: environments of backend {self.backend!r} can only step together.")

    @abstractmethod
    def rebase(self, boundary: int) -> NDArray:
        """Start fresh episodes everywhere from random streams that are a function of (seed, ``boundary``) alone.

        Backends that cannot save a running simulation are checkpointed right after this call, in interrupted and
        uninterrupted runs alike, so both continue identically. Returns the first observations ``[num_envs, D]``.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, NDArray]:
        """All state that affects the next steps, as plain arrays."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, NDArray]) -> None:
        """Continue from ``state_dict()`` of an environment built with the same arguments.

        Raises:
            SuiteError: the state belongs to another suite, size or backend.
        """
